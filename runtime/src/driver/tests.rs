use super::*;
use crate::config::{Member, Secret};
use ironseed_core::machine::{Duration, FileId, FileKind, Halt, Io, IoOp};
use ironseed_core::object::api::Answer;
use std::sync::Mutex;
use tokio::time::timeout;

/// A machine that writes, syncs, reads back and hashes for each request before it answers it, and
/// keeps a list of what happened to it.
#[derive(Default)]
struct Toy {
    seen: Arc<Mutex<Vec<String>>>,
    waiting: BTreeMap<OpId, (RequestId, u8)>,
    next: u64,
    timer: Option<Instant>,
    phase: Phase,
    found: Option<Founding>,
}

const FILE: FileId = FileId::new(FileKind::Wal, 1);

impl Toy {
    fn note(&self, what: impl Into<String>) {
        self.seen.lock().unwrap().push(what.into());
    }

    fn io(&mut self, request: RequestId, stage: u8, effects: &mut Vec<Effect>) {
        self.next += 1;
        let op = OpId(self.next);
        self.waiting.insert(op, (request, stage));
        let bytes = Bytes::from_static(&[7; 8192]);
        let io = match stage {
            0 => Io::Create { file: FILE, bytes: 8192 },
            1 => Io::Write { file: FILE, offset: 0, data: vec![bytes] },
            2 => Io::Sync { file: FILE },
            3 => Io::Read { file: FILE, offset: 0, len: 8192 },
            // One that is hashed on the spot and one that is handed over.
            4 => return effects.push(Effect::Hash { op, bytes: bytes.slice(..100) }),
            _ => return effects.push(Effect::Hash { op, bytes }),
        };
        effects.push(Effect::Io(IoOp { op, io }));
    }
}

impl Machine for Toy {
    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Boot { files, found } => {
                self.note(format!("boot with {} files", files.len()));
                self.found = found;
                self.phase = Phase::Serving;
                self.timer = Some(now.mono + Duration::from_millis(5));
            }
            Input::Timer => {
                assert!(self.timer.is_some_and(|timer| timer <= now.mono), "too early");
                self.timer = None;
                self.note("timer");
            }
            Input::Request { id, request: Request::HeadBucket { bucket } } => match &*bucket {
                "silent" => self.note(format!("request {id}")),
                "broken" => effects.push(Effect::Halt(Halt { reason: "sync failed".into() })),
                _ => self.io(id, 0, effects),
            },
            Input::Request { id, .. } => {
                effects.push(Effect::Reply { id, outcome: Err(Refusal::Busy) });
            }
            Input::Cancel { id } => self.note(format!("cancel {id}")),
            Input::Refused { peer } => self.note(format!("refused by {peer}")),
            Input::Done { op, result } => {
                let (id, stage) = self.waiting.remove(&op).expect("completes once");
                match (stage, result.expect("succeeds")) {
                    (0..=2, IoDone::Ok) => {}
                    (3, IoDone::Data(bytes)) => assert_eq!(bytes, [7; 8192].as_slice()),
                    (4, IoDone::Hashed(hashed)) => assert_eq!(hashed, Hashed::of(&[7; 100])),
                    (5, IoDone::Hashed(hashed)) => assert_eq!(hashed, Hashed::of(&[7; 8192])),
                    (stage, done) => panic!("{done:?} at stage {stage}"),
                }
                if stage < 5 {
                    return self.io(id, stage + 1, effects);
                }
                effects.push(Effect::Reply { id, outcome: Ok(Answer::Done) });
            }
            Input::Stop => {
                self.phase = Phase::Stopping;
                effects.push(Effect::Stopped);
            }
            Input::Message { .. } => {}
        }
    }
    fn deadline(&self) -> Option<Instant> {
        self.timer
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn founding(&self) -> Option<&Founding> {
        self.found.as_ref()
    }
    fn status(&self) -> Status {
        Status { node: NodeId(42), ..Status::default() }
    }
}

struct Setup {
    running: Running,
    seen: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::default();
    let seen = toy.seen.clone();
    let found = Founding {
        cluster: ironseed_core::types::ClusterId([3; 16]),
        access_key: "root".into(),
        secret_key: "secret".into(),
    };
    let parts = Parts {
        name: "n1".into(),
        clock: Clock::start(Duration::ZERO),
        dir: DataDir::open(&folder.path().join("data")).unwrap(),
        engine: None,
        found: Some(found),
        net: |inbox, _public| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let members = [Member { id: NodeId(1), address, admin: None }];
            let cluster = watch::channel(None).1;
            Net::start(listener, NodeId(1), &members, &Secret::default(), cluster, inbox)
        },
        recorder: None,
    };
    Setup { running: start(toy, parts).unwrap(), seen, _folder: folder }
}

fn head(bucket: &str) -> Request {
    Request::HeadBucket { bucket: bucket.into() }
}

async fn seen(setup: &Setup, what: &str) {
    for _ in 0..1000 {
        if setup.seen.lock().unwrap().iter().any(|seen| seen == what) {
            return;
        }
        sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{what:?} is not in {:?}", setup.seen.lock().unwrap());
}

#[tokio::test]
async fn effects_are_executed_and_completed_until_the_answer() {
    let setup = setup();
    let handle = &setup.running.handle;
    for _ in 0..20 {
        assert_eq!(handle.call(head("any")).await, Ok(Answer::Done));
    }
    assert_eq!(
        handle.call(Request::DeleteBucket { bucket: "any".into() }).await,
        Err(Refusal::Busy)
    );
    seen(&setup, "boot with 0 files").await;
    seen(&setup, "timer").await;
    assert_eq!(handle.status().await.unwrap().status.node, NodeId(42));
    let public = handle.public().borrow().clone();
    assert_eq!(public.phase, Phase::Serving);
    assert_eq!(public.founding.unwrap().access_key, "root");
}

#[tokio::test]
async fn whoever_goes_away_cancels() {
    let setup = setup();
    let call = setup.running.handle.call(head("silent"));
    assert!(timeout(std::time::Duration::from_millis(50), call).await.is_err());
    seen(&setup, "request 1").await;
    seen(&setup, "cancel 1").await;
}

#[tokio::test]
async fn a_stop_leaves_open_requests_unknown_and_later_ones_unavailable() {
    let setup = setup();
    let handle = setup.running.handle.clone();
    let open = handle.call(head("silent"));
    let stop = async {
        seen(&setup, "request 1").await;
        handle.stop();
    };
    let (open, ()) = tokio::join!(open, stop);
    assert_eq!(open, Err(Refusal::OutcomeUnknown));
    assert_eq!(setup.running.exit.await, Ok(Exit::Stopped));
    assert!(matches!(handle.call(head("any")).await, Err(Refusal::Unavailable(_))));
    assert_eq!(handle.status().await, None);
    // The directory is free again, and what was written is there.
    assert!(DataDir::open(&setup._folder.path().join("data")).is_ok());
}

#[tokio::test]
async fn a_halt_ends_the_node_with_its_reason() {
    let setup = setup();
    let answer = setup.running.handle.call(head("broken")).await;
    assert_eq!(answer, Err(Refusal::OutcomeUnknown));
    assert_eq!(setup.running.exit.await, Ok(Exit::Halted("sync failed".into())));
}

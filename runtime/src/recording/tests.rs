use super::file::{Frame, HEADER_BYTES, PREAMBLE_BYTES, Reader, Tail, Unreadable};
use super::*;
use crate::clock::Clock;
use crate::config::{Member, Secret};
use crate::disk::DataDir;
use crate::driver::{self, Exit, Parts};
use crate::net::Net;
use ironseed_core::codec::Octets;
use ironseed_core::node::Node;
use ironseed_core::node::api::{Engine, Founding, FsyncPolicy, Tuning};
use ironseed_core::object::api::{
    Answer, Attributes, CHUNK_BYTES, Condition, Content, ETag, NewObject, Request,
};
use ironseed_core::planted::Planted;
use ironseed_core::types::{ClusterId, NodeId};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tempfile::TempDir;
use tokio::sync::watch;

/// What the object holds: it is looked for in the recording.
const CONTENT: &[u8] = b"the content of the object";

fn settings() -> Config {
    let tuning = Tuning {
        wal_segment_bytes: 4 << 20,
        table_segment_bytes: 4 << 20,
        chunk_segment_bytes: 4 << 20,
        ..Tuning::default()
    };
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 4,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        engine: Engine::Native,
        tuning,
        seed: getrandom::u64().unwrap(),
        planted: Planted::NONE,
    }
}

/// Boots a node on the data in `folder`, recorded, has it carry the requests out, and stops it.
async fn boot(folder: &Path, requests: &[Request]) -> Vec<Answer> {
    let settings = settings();
    let recorder = Recorder::create(&folder.join("recordings"), &settings).unwrap();
    let found = Founding {
        cluster: ClusterId([3; 16]),
        access_key: "root".into(),
        secret_key: "secret".into(),
    };
    let data = folder.join("data");
    let blank = !data.exists();
    let parts = Parts {
        name: "n1".into(),
        clock: Clock::start(Duration::from_millis(5)),
        dir: DataDir::open(&data).unwrap(),
        engine: None,
        found: blank.then_some(found),
        net: |inbox, _public| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?.to_string();
            let members = [Member { id: NodeId(1), address, admin: None }];
            let cluster = watch::channel(None).1;
            Net::start(listener, NodeId(1), &members, &Secret::default(), cluster, inbox)
        },
        recorder: Some(recorder),
    };
    let running = driver::start(Node::new(settings), parts).unwrap();
    let patience = std::time::Duration::from_secs(30);
    assert!(crate::server::ready(&running.handle, patience).await, "it must serve");
    let mut answers = Vec::new();
    for request in requests {
        answers.push(running.handle.call(request.clone()).await.unwrap());
    }
    running.handle.stop();
    assert_eq!(running.exit.await, Ok(Exit::Stopped));
    answers
}

fn put() -> Request {
    Request::PutObject {
        bucket: "bucket".into(),
        key: "key".into(),
        object: NewObject {
            attributes: Attributes::default(),
            bytes: CONTENT.len() as u64,
            etag: ETag { md5: [7; 16], parts: 0 },
            content: Content::Inline(Octets::from(CONTENT.to_vec())),
        },
        condition: Condition::None,
    }
}

fn get() -> Request {
    Request::GetObject { bucket: "bucket".into(), key: "key".into() }
}

/// One boot with an object and a chunk, which is hashed by another thread.
async fn recorded() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, key) = ("bucket".to_owned(), "key".to_owned());
    let create = Request::CreateBucket { bucket: bucket.clone() };
    let open = Request::OpenBlob { bucket, key };
    let answers = boot(folder.path(), &[create, put(), get(), open]).await;
    let Some(Answer::Blob { blob }) = answers.last() else { panic!("{answers:?}") };
    let bytes = Octets::from(vec![9; CHUNK_BYTES]);
    boot(folder.path(), &[Request::WriteChunk { blob: *blob, bytes }, get()]).await;
    let path = folder.path().join("recordings/node-1-000001.rec");
    (folder, path)
}

fn replayed(path: &Path) -> Result<Summary, Failure> {
    replay(path, None, &mut io::sink())
}

/// The frames of a recording after its head: kind and bytes, the frame's header included.
fn frames(bytes: &[u8]) -> Vec<(u8, Range<usize>)> {
    let mut at = PREAMBLE_BYTES;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let next = at + HEADER_BYTES + length;
        frames.push((bytes[at + 8], at..next));
        at = next;
    }
    assert_eq!(frames.remove(0).0, HEAD);
    frames
}

/// The bytes with those of one frame changed and its checksum put right.
fn forged(bytes: &[u8], frame: Range<usize>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let kind = bytes[frame.start + 8];
    let mut forged = bytes.to_vec();
    change(&mut forged[frame.start + HEADER_BYTES..frame.end]);
    file::end_frame(&mut forged[frame], kind).unwrap();
    forged
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[tokio::test]
async fn every_boot_has_a_private_file_that_replays() {
    let (folder, first) = recorded().await;
    let second = folder.path().join("recordings/node-1-000002.rec");
    for (path, requests) in [(&first, 4), (&second, 2)] {
        let summary = replayed(path).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((summary.node, &*summary.program), (1, PROGRAM));
        assert_eq!((summary.tail, summary.unanswered), ("whole", false));
        assert_eq!(summary.bytes, fs::metadata(path).unwrap().len());
        let Inputs {
            boots,
            messages,
            requests: asked,
            cancels,
            refusals,
            completions,
            timers,
            stops,
        } = summary.inputs;
        assert_eq!((boots, messages, asked, cancels, refusals, stops), (1, 0, requests, 0, 0, 1));
        assert!(completions > 10, "{summary:?}");
        let all = boots + messages + asked + cancels + completions + timers + stops;
        assert_eq!(all, summary.steps);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let folder = fs::metadata(folder.path().join("recordings")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn an_input_that_was_not_the_one_diverges_and_is_named() {
    let (folder, path) = recorded().await;
    let bytes = fs::read(&path).unwrap();
    let frames = frames(&bytes);
    let steps: Vec<_> = frames.iter().filter(|(kind, _)| *kind == STEP).collect();
    let holds =
        |(_, frame): &&&(u8, Range<usize>)| position(&bytes[frame.clone()], CONTENT).is_some();
    let (_, frame) = steps.iter().find(holds).expect("the request is there");
    let changed = steps.iter().position(|(_, step)| step == frame).unwrap() as u64 + 1;
    let other = forged(&bytes, frame.clone(), |payload| {
        let at = position(payload, CONTENT).unwrap();
        payload[at] ^= 1;
    });
    let path = folder.path().join("forged.rec");
    fs::write(&path, other).unwrap();
    let failure = replayed(&path).unwrap_err();
    let Failure::Diverged { step, shown, other, .. } = &failure else { panic!("{failure}") };
    // In the same step, or as soon as the write before it is done.
    assert!((changed..changed + 20).contains(step), "changed {changed}, {failure}");
    assert!(shown.starts_with(&format!("#{step} ")) && shown.contains("\n    -> "), "{shown}");
    assert_eq!(*other, None);
    assert!(failure.to_string().starts_with(&format!("step {step} diverges: ")), "{failure}");
}

#[tokio::test]
async fn a_reaction_that_was_not_the_one_diverges_in_its_step() {
    let (folder, path) = recorded().await;
    let bytes = fs::read(&path).unwrap();
    let frames = frames(&bytes);
    let path = folder.path().join("forged.rec");
    for step in [1, 2, frames.len() / 2] {
        let (kind, frame) = &frames[2 * step - 1];
        assert_eq!(*kind, REACTION);
        // Without effects a reaction is a count and a deadline.
        let other = forged(&bytes, frame.clone(), |payload| *payload.last_mut().unwrap() ^= 1);
        fs::write(&path, other).unwrap();
        match replayed(&path).unwrap_err() {
            Failure::Diverged { step: named, .. } => assert_eq!(named, step as u64),
            Failure::Unreadable(Unreadable::Malformed(at)) => assert_eq!(at, frame.start as u64),
            failure => panic!("{failure}"),
        }
    }
}

#[tokio::test]
async fn a_torn_tail_is_told_and_what_comes_before_it_replays() {
    let (folder, path) = recorded().await;
    let bytes = fs::read(&path).unwrap();
    let frames = frames(&bytes);
    let whole = replayed(&path).unwrap();
    let path = folder.path().join("cut.rec");
    // The last two frames, byte by byte.
    let (step, reaction) = (&frames[frames.len() - 2].1, &frames[frames.len() - 1].1);
    for cut in step.start..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let summary = replayed(&path).unwrap_or_else(|failure| panic!("{cut}: {failure}"));
        let clean = cut == step.start || cut == reaction.start;
        assert_eq!(summary.tail, if clean { "whole" } else { "torn" }, "{cut}");
        assert_eq!(summary.unanswered, cut >= reaction.start, "{cut}");
        assert_eq!(whole.steps - summary.steps, u64::from(cut < reaction.start), "{cut}");
    }
    // A byte that is not what was written ends it as well.
    let middle = &frames[frames.len() / 2].1;
    let mut other = bytes.clone();
    other[middle.end - 1] ^= 1;
    fs::write(&path, other).unwrap();
    let summary = replayed(&path).unwrap();
    assert_eq!((summary.tail, summary.bytes), ("damaged", middle.start as u64));
    assert!(summary.steps < whole.steps);
}

#[tokio::test]
async fn what_is_no_recording_of_this_version_is_refused() {
    let (folder, path) = recorded().await;
    let bytes = fs::read(&path).unwrap();
    let head = frames(&bytes)[0].1.start;
    for cut in 0..head {
        match Reader::open(&bytes[..cut]).map(drop).unwrap_err() {
            Unreadable::Foreign => assert!(cut < PREAMBLE_BYTES, "{cut}"),
            Unreadable::Headless => assert!(cut >= PREAMBLE_BYTES, "{cut}"),
            other => panic!("{cut}: {other}"),
        }
    }
    // A step without a reaction, or a reaction without a step, in the middle.
    let path = folder.path().join("other.rec");
    let frames = frames(&bytes);
    for gone in [10, 11] {
        let mut other = bytes.clone();
        other.drain(frames[gone].1.clone());
        fs::write(&path, &other).unwrap();
        let at = frames[gone].1.start as u64;
        match replayed(&path).unwrap_err() {
            Failure::Unreadable(Unreadable::Malformed(named)) => assert_eq!(named, at),
            failure => panic!("{failure}"),
        }
    }
    let mut other = bytes.clone();
    other[8] += 1;
    fs::write(&path, &other).unwrap();
    let failure = replayed(&path).unwrap_err();
    let later = recording::VERSION + 1;
    assert!(
        matches!(failure, Failure::Unreadable(Unreadable::Version(told)) if told == later),
        "{failure}"
    );
    other[0] ^= 1;
    assert!(matches!(Reader::open(&*other), Err(Unreadable::Foreign)));
    // Settings that no node can have, under a good checksum: three shards are no power of two.
    let mut strange = settings();
    strange.shards = 3;
    drop(Recorder::create(folder.path(), &strange).unwrap());
    let failure = replayed(&folder.path().join("node-1-000001.rec")).unwrap_err();
    assert!(matches!(failure, Failure::Panicked { step: 0, .. }), "{failure}");
}

#[test]
fn a_step_that_panics_is_there_and_panics_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings();
    let mut recorder = Recorder::create(folder.path(), &settings).unwrap();
    let path = recorder.path().to_owned();
    let mut node = Node::new(settings);
    let at = |mono| Now { mono: Instant(mono), ..Now::default() };
    let boot = Input::Boot { files: Vec::new(), found: None };
    let died = catch_unwind(AssertUnwindSafe(move || {
        // The second goes back in time, which no clock does.
        for (now, input) in [(at(5), boot), (at(4), Input::Timer)] {
            let mut effects = Vec::new();
            recorder.step(now, &input);
            node.step(now, input, &mut effects);
            recorder.reaction(&effects, node.deadline());
        }
    }));
    assert!(died.is_err());
    let mut reader = Reader::open(File::open(&path).unwrap()).unwrap();
    let kinds: Vec<bool> = std::iter::from_fn(|| reader.next_frame().unwrap())
        .map(|frame| matches!(frame, Frame::Step(..)))
        .collect();
    assert_eq!((kinds, reader.tail()), (vec![true, false, true], Tail::Whole));
    let failure = replayed(&path).unwrap_err();
    let Failure::Panicked { step: 2, survived: false, shown } = &failure else {
        panic!("{failure}")
    };
    assert!(shown.contains("Timer"), "{shown}");
}

#[test]
fn what_has_gathered_leaves_ten_times_a_second_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(folder.path(), &settings()).unwrap();
    let length = |recorder: &Recorder| fs::metadata(recorder.path()).unwrap().len();
    let mut rests = |ms: u64| {
        let before = length(&recorder);
        let mono = Instant::default() + Duration::from_millis(ms);
        recorder.step(Now { mono, ..Now::default() }, &Input::Timer);
        assert_eq!(length(&recorder), before, "it gathers");
        recorder.rest();
        length(&recorder) > before
    };
    assert_eq!([5000, 5099, 5100, 5101, 5200].map(&mut rests), [true, false, true, false, true]);
}

#[test]
fn a_disk_without_room_ends_the_recording_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(folder.path(), &settings()).unwrap();
    recorder.file = Some(BufWriter::new(File::options().write(true).open("/dev/full").unwrap()));
    recorder.step(Now { mono: Instant(1 << 40), ..Now::default() }, &Input::Timer);
    recorder.rest();
    assert!(recorder.file.is_none());
    recorder.reaction(&[], None);
    recorder.rest();
}

#[tokio::test]
async fn a_trace_shows_the_steps_that_are_asked_for() {
    let (_folder, path) = recorded().await;
    let options = Options { from: 1, to: 3, width: 60 };
    let mut out = Vec::new();
    replay(&path, Some(&options), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let steps: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(steps.len(), 3, "{text}");
    assert!(steps[0].starts_with("#1 0.000000ms Boot { files: [], found: Some("), "{text}");
    assert!(text.lines().all(|line| line.len() < 100), "{text}");
    assert!(text.contains("    -> Io("), "{text}");
}

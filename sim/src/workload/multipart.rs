//! A multipart upload as a client makes it: create, part after part, and an end of the client's choice.

use super::bodies::Upload;
use super::content::{Body, Contents, md5_of};
use super::script::Target;
use ironseed_core::machine::Instant;
use ironseed_core::object::api::{
    Answer, Attributes, Condition, NamedPart, NewPart, Outcome, Request,
};
use ironseed_core::object::transfer::{Failure, Ticket, Uploaded};
use ironseed_core::types::BlobId;

/// How a client ends a multipart upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It completes it.
    Complete(Condition),
    /// It completes it, and asks for it once more: as one whose answer was lost.
    CompleteTwice(Condition),
    /// It aborts it.
    Abort,
    /// It forgets it.
    Abandon,
}

/// A multipart upload under way.
#[derive(Clone, Debug)]
pub(super) struct Multipart {
    target: Target,
    bodies: Vec<Body>,
    finish: Finish,
    upload: Option<BlobId>,
    named: Vec<NamedPart>,
    /// Of the part under way.
    md5: [u8; 16],
    /// What is asked again once it is answered.
    again: Option<Request>,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// A part's bytes go up.
    Staging(Upload),
    /// One request.
    Asking { request: Box<Option<Request>>, purpose: Purpose },
    /// It has been ended.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Create,
    Part,
    Finish,
}

/// What an outcome comes to.
pub(super) enum Progress {
    /// There is more to do.
    Going,
    /// It is over, with this last outcome.
    Over(Outcome),
    /// A part's bytes could not be staged.
    Failed(Failure),
    /// The answer was of the wrong kind.
    Wrong(String),
}

impl Multipart {
    pub(super) fn new(target: Target, bodies: Vec<Body>, finish: Finish) -> Self {
        let Target { bucket, key } = target.clone();
        let request = Request::CreateUpload { bucket, key, attributes: Attributes::default() };
        let step = Step::Asking { request: Box::new(Some(request)), purpose: Purpose::Create };
        let (upload, named, again) = (None, Vec::new(), None);
        Self { target, bodies, finish, upload, named, md5: [0; 16], again, step }
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<(Option<Ticket>, Request)> {
        match &mut self.step {
            Step::Staging(upload) => {
                upload.poll(now.0).map(|call| (Some(call.ticket), call.request))
            }
            Step::Asking { request, .. } => request.take().map(|request| (None, request)),
            Step::Over => None,
        }
    }

    pub(super) fn on_outcome(
        &mut self,
        ticket: Option<Ticket>,
        outcome: Outcome,
        contents: &mut Contents,
    ) -> Progress {
        let purpose = match &mut self.step {
            Step::Staging(upload) => {
                upload.report(ticket, outcome);
                return match upload.uploader.outcome() {
                    Some(Ok(uploaded)) => {
                        let md5 = md5_of(&upload.body);
                        self.put_part(uploaded, md5)
                    }
                    Some(Err(failure)) if upload.uploader.is_idle() => Progress::Failed(failure),
                    // A failed upload still has its blob to drop.
                    Some(Err(_)) | None => Progress::Going,
                };
            }
            Step::Asking { purpose, .. } => *purpose,
            Step::Over => return Progress::Over(outcome),
        };
        if purpose == Purpose::Finish
            && let Some(again) = self.again.take()
        {
            self.step = Step::Asking { request: Box::new(Some(again)), purpose };
            return Progress::Going;
        }
        if outcome.is_err() || purpose == Purpose::Finish {
            self.step = Step::Over;
            return Progress::Over(outcome);
        }
        match (purpose, outcome) {
            (Purpose::Create, Ok(Answer::Upload { upload })) => self.upload = Some(upload),
            (Purpose::Part, Ok(Answer::Done)) => {
                let body = self.bodies[self.named.len()];
                let number = self.named.len() as u16 + 1;
                contents.part(body, self.md5);
                self.named.push(NamedPart { number, md5: self.md5 });
            }
            (_, other) => return Progress::Wrong(format!("{purpose:?} was answered {other:?}")),
        }
        self.go_on(contents)
    }

    /// The next part, or the end.
    fn go_on(&mut self, contents: &mut Contents) -> Progress {
        if let Some(body) = self.bodies.get(self.named.len()) {
            let upload = Upload::new(&self.target, body.bytes());
            // A small part has nothing to stage.
            if let Some(Ok(uploaded)) = upload.uploader.outcome() {
                return self.put_part(uploaded, md5_of(&upload.body));
            }
            self.step = Step::Staging(upload);
            return Progress::Going;
        }
        let Target { bucket, key } = self.target.clone();
        let Some(upload) = self.upload else { return Progress::Going };
        let request = match self.finish {
            Finish::Abandon => {
                self.step = Step::Over;
                return Progress::Over(Ok(Answer::Done));
            }
            Finish::Abort => Request::AbortUpload { bucket, key, upload },
            Finish::Complete(condition) | Finish::CompleteTwice(condition) => {
                contents.complete(&self.named);
                let parts = self.named.clone();
                let checksum = None;
                Request::CompleteUpload { bucket, key, upload, parts, checksum, condition }
            }
        };
        let twice = matches!(self.finish, Finish::CompleteTwice(_));
        self.again = twice.then(|| request.clone());
        self.step = Step::Asking { request: Box::new(Some(request)), purpose: Purpose::Finish };
        Progress::Going
    }

    /// The part's bytes are staged, or need no staging: its record is next.
    fn put_part(&mut self, uploaded: Uploaded, md5: [u8; 16]) -> Progress {
        self.md5 = md5;
        let Some(upload) = self.upload else { return Progress::Going };
        let Target { bucket, key } = self.target.clone();
        let part =
            NewPart { bytes: uploaded.bytes, md5, checksum: None, content: uploaded.content };
        let number = self.named.len() as u16 + 1;
        let request = Request::PutPart { bucket, key, upload, number, part };
        self.step = Step::Asking { request: Box::new(Some(request)), purpose: Purpose::Part };
        Progress::Going
    }
}

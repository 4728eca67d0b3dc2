//! Moving a container to another version of its image: tried, watched, and taken back if it fails.
//!
//! The move is on the disk before it is done (`state::versions`), so that a berthd that is killed in between leaves the
//! next one what it needs to bring it to an end.

use std::{rc::Rc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{Supervisor, decide, reconcile::ending, slot::Slot, tags::running_image};
use crate::{
    image::{Digest, Source, Version},
    journal,
    manager::{Active, Batch, JobError, JobVerb, Order, Unit},
    observe::Lifecycle,
    protocol::{How, Switched, Target},
    spec::{Name, Outcome},
    state::{
        Versions,
        versions::{Attempt, Deed},
    },
};

/// How long a container must run to count as started, where an earlier berthd was told and this one was not.
const WATCH: Duration = Duration::from_secs(5);

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It runs with the image.
    Runs,
    /// It ended as it should, or was stopped.
    Ended,
    /// It runs with what it had.
    Stays(String),
    /// It does not run.
    Fails(String),
}

/// How a container stands before a move.
struct Standing {
    /// What its spec names.
    source: Source,
    /// What that is in the store.
    present: Option<Version>,
    /// What is known of its images, if they are of this source.
    known: Option<Versions>,
    /// What it runs with.
    running: Option<Digest>,
    /// In one word.
    state: Lifecycle,
}

impl Supervisor {
    /// Moves a container to another version of its image.
    ///
    /// # Errors
    /// It was not moved, or taken back; one line for people.
    pub(super) async fn switch(
        self: &Rc<Self>,
        name: &Name,
        target: Target,
        watch: Duration,
    ) -> Result<Switched, String> {
        let slot = self.container_of(name).ok_or_else(|| self.no_such_container(name))?;
        let _turn = slot.switching.lock().await;
        self.quiet(&slot).await;
        self.note_version(&slot).await;
        let standing = self.standing(&slot).await?;
        let from =
            standing.running.clone().or_else(|| standing.known.as_ref().map(|known| known.current.digest.clone()));
        let (deed, to) = match target {
            Target::Present => (Deed::Update, standing.to_present()?),
            Target::Former => (Deed::Rollback, standing.to_former(name)?),
        };
        let digest = to.digest.clone();
        let resume = standing.is_to_resume();
        let moving = standing.moving(name, Attempt { to, deed, resume, boot_id: self.host.boot_id.clone() });
        let how = if standing.running.as_ref() == Some(&digest) {
            self.settle_versions(&slot, &standing, moving).await?;
            How::Already
        } else if !standing.is_up() || (from.as_ref() == Some(&digest) && standing.next() == Some(&digest)) {
            self.settle_versions(&slot, &standing, moving).await?;
            if from.as_ref() == Some(&digest) { How::Already } else { How::NextStart }
        } else {
            self.keep_versions(&slot, moving).await.map_err(|error| cannot_note(name, &error))?;
            let verb = if standing.state == Lifecycle::Running { JobVerb::TryRestart } else { JobVerb::Restart };
            let verdict = self.try_out(&slot, verb, &digest, watch).await;
            self.conclude(&slot, verdict).await?
        };
        Ok(Switched { from, to: digest, how })
    }

    /// Brings a move to an end that an earlier berthd has begun.
    pub(super) async fn resume_switch(self: &Rc<Self>, slot: &Rc<Slot>) {
        let _turn = slot.switching.lock().await;
        let Some(attempt) = slot.versions.borrow().as_ref().and_then(|versions| versions.attempt.clone()) else {
            return;
        };
        let verdict = match self.judge(slot, &attempt.to.digest, WATCH, None).await {
            // Without systemd the job of a restart ends with berthd, between stop and start.
            Verdict::Ended if attempt.resume => Verdict::Fails("berthd ended meanwhile".to_owned()),
            other => other,
        };
        if let Err(why) = self.conclude(slot, verdict).await {
            tracing::warn!(BERTH_CONTAINER = slot.name.as_str(), "{why}");
        }
    }

    /// How a container stands.
    async fn standing(&self, slot: &Rc<Slot>) -> Result<Standing, String> {
        let name = &slot.name;
        let image = match self.catalog.borrow().containers.get(name).map(|loaded| &loaded.outcome) {
            Some(Outcome::Good(spec)) => spec.image.clone(),
            Some(Outcome::Bad(errors)) => {
                return Err(format!(
                    "its files have mistakes: {}",
                    errors.first().map(ToString::to_string).unwrap_or_default()
                ));
            }
            Some(Outcome::Masked) => return Err(format!("the spec of '{name}' is masked")),
            None => return Err(self.no_such_container(name)),
        };
        let source = image.ok_or_else(|| format!("'{name}' has no [image]: it runs in the host's filesystem"))?.source;
        if matches!(source, Source::Rootfs { .. }) {
            return Err(format!("the root of '{name}' is a directory, of which there are no versions"));
        }
        let running = running_image(slot);
        if let Some((other, _)) = running.as_ref().filter(|(running, _)| *running != source) {
            let cure = format!("'berthctl restart {name}' applies that");
            return Err(format!("it runs with {other} and its spec names {source} now; {cure}"));
        }
        let present = self.present_version(&source).await?;
        let known = slot.versions.borrow().clone().filter(|known| known.source == source);
        Ok(Standing { source, present, known, running: running.map(|(_, digest)| digest), state: self.lifecycle(slot) })
    }

    /// Notes a move that needs no start.
    async fn settle_versions(&self, slot: &Rc<Slot>, standing: &Standing, moving: Versions) -> Result<(), String> {
        let Some(known) = &standing.known else { return Ok(()) };
        let settled = match moving.attempt.as_ref().map(|attempt| attempt.deed) {
            // It will be what it was started from when it has been.
            Some(Deed::Update) => Versions { attempt: None, held_back: None, ..known.clone() },
            _ => moving.succeeded(standing.present.as_ref().map(|version| &version.digest)),
        };
        self.keep_versions(slot, settled).await.map_err(|error| cannot_note(&slot.name, &error))
    }

    /// Starts a container, which is to run with an image then.
    async fn try_out(self: &Rc<Self>, slot: &Rc<Slot>, verb: JobVerb, digest: &Digest, watch: Duration) -> Verdict {
        self.quiet(slot).await;
        let is_gone = self.wanted(&slot.name, |wanted| matches!(wanted, decide::Wanted::Gone | decide::Wanted::Masked));
        if is_gone || !self.is_registered(slot) {
            return Verdict::Fails("its spec was removed".to_owned());
        }
        // What an operator asks for is a new beginning, also for the start limit.
        self.manager.order(Order::ResetFailed(slot.name.clone()));
        let (sender, receiver) = oneshot::channel();
        let jobs = vec![self.job(slot, verb, None, Some(sender))];
        self.manager.order(Order::Apply(Batch { jobs, ..Batch::default() }));
        let error = receiver.await.ok().and_then(Result::err);
        self.judge(slot, digest, watch, error).await
    }

    /// Waits until it is certain whether a container runs with an image.
    async fn judge(&self, slot: &Rc<Slot>, digest: &Digest, watch: Duration, error: Option<JobError>) -> Verdict {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            self.quiet(slot).await;
            if !self.is_registered(slot) {
                return Verdict::Fails("its spec was removed".to_owned());
            }
            let verdict = self.look(slot, digest, error.as_ref());
            if verdict != Verdict::Runs {
                return verdict;
            }
            let invocation = slot.unit.borrow().invocation.clone();
            let (first, end) = seen.get_or_insert_with(|| (invocation.clone(), Instant::now() + watch));
            // Somebody else has started it again meanwhile, and has seen what came of it.
            if *first != invocation || tokio::time::timeout_at(*end, slot.news.notified()).await.is_err() {
                return Verdict::Runs;
            }
        }
    }

    /// Whether a container runs with an image, now that nothing of it is under way.
    fn look(&self, slot: &Slot, digest: &Digest, error: Option<&JobError>) -> Verdict {
        let (record, unit) = (slot.record.borrow(), slot.unit.borrow());
        let why = || record.failure.as_ref().map(|failure| failure.message.clone());
        let running = record.run.as_ref().filter(|run| unit.invocation.as_ref() == Some(&run.invocation));
        let has = running.and_then(|run| run.plan.image.as_ref()?.digest.as_ref());
        match unit.active {
            Active::Active | Active::Reloading if has == Some(digest) && unit.restarts == 0 => Verdict::Runs,
            Active::Active | Active::Reloading if has == Some(digest) => {
                Verdict::Fails("it ended and was started again".to_owned())
            }
            Active::Active | Active::Reloading => {
                Verdict::Stays(error.map_or_else(|| "it was not started again".to_owned(), ToString::to_string))
            }
            Active::Activating | Active::Deactivating => Verdict::Fails(why().unwrap_or_else(|| ending(&unit))),
            Active::Failed if !decide::killed_by_stop(&unit) => Verdict::Fails(why().unwrap_or_else(|| ending(&unit))),
            Active::Failed | Active::Inactive => match (why(), error) {
                (Some(why), _) => Verdict::Fails(why),
                (None, Some(error)) if !unit.stopped => Verdict::Fails(error.to_string()),
                (None, _) => Verdict::Ended,
            },
        }
    }

    /// Waits until nothing of a container is under way.
    async fn quiet(&self, slot: &Rc<Slot>) {
        let is_quiet = || {
            let here = self.synced.get() && self.away.borrow().is_none();
            here && !slot.is_busy() && is_settled(&slot.unit.borrow())
        };
        // One that was forgotten meanwhile hears of nothing any more.
        while self.is_registered(slot) && !is_quiet() {
            slot.news.notified().await;
        }
    }

    /// Notes what came of a move; where it has failed the container is started with what it had.
    async fn conclude(self: &Rc<Self>, slot: &Rc<Slot>, verdict: Verdict) -> Result<How, String> {
        let name = &slot.name;
        let Some(moving) = slot.versions.borrow().clone() else { return Err("its spec was removed".to_owned()) };
        let Some(Attempt { to, deed, resume, .. }) = moving.attempt.clone() else { return Ok(How::Already) };
        let (from, to) = (moving.current.digest.clone(), to.digest);
        let note = async |versions: Versions| {
            self.keep_versions(slot, versions).await.map_err(|error| cannot_note(name, &error))
        };
        match verdict {
            Verdict::Runs | Verdict::Ended => {
                let present = self.present_version(&moving.source).await?.map(|version| version.digest);
                note(moving.succeeded(present.as_ref())).await?;
                journal::Event::ImageUpdated.log_for(name, &format!("moved from image {from} to {to}"));
                Ok(if verdict == Verdict::Runs { How::Runs } else { How::Ended })
            }
            Verdict::Stays(why) => {
                note(Versions { attempt: None, ..moving }).await?;
                Err(format!("it goes on with image {}: {why}", from.short()))
            }
            Verdict::Fails(why) => {
                match deed {
                    // Its first image: nothing has ever run.
                    Deed::Update if from == to => self.forget_versions(slot),
                    _ => note(moving.failed()).await?,
                }
                let failed = format!("with image {} it does not run ({why})", to.short());
                let back = from.short();
                let now = match resume && from != to {
                    true => match self.try_out(slot, JobVerb::Restart, &from, Duration::ZERO).await {
                        Verdict::Runs | Verdict::Ended => format!("it was taken back and runs with image {back} again"),
                        Verdict::Stays(why) | Verdict::Fails(why) => {
                            format!("it was taken back, and with image {back} it does not run either ({why})")
                        }
                    },
                    false => "it stays as it is".to_owned(),
                };
                journal::Event::ImageRolledBack.log_for(name, &format!("{failed}; {now}"));
                Err(format!("{failed}; {now}"))
            }
        }
    }
}

impl Standing {
    /// What the source is now.
    fn to_present(&self) -> Result<Version, String> {
        let cure = format!("get it with 'berthctl pull {}'", self.source);
        self.present.clone().ok_or_else(|| format!("the image {} is not on this host; {cure}", self.source))
    }

    /// What the container had before. Where it does not come up with what it has now, that is what it ran with last.
    fn to_former(&self, name: &Name) -> Result<Version, String> {
        let none = || format!("there is no former image of '{name}' to go back to: it has run with one only");
        let known = self.known.as_ref().ok_or_else(none)?;
        let unable = matches!(self.state, Lifecycle::Failed | Lifecycle::Restarting);
        if unable && self.next() != Some(&known.current.digest) {
            return Ok(known.current.clone());
        }
        known.former.clone().ok_or_else(none)
    }

    /// What a start would take.
    fn next(&self) -> Option<&Digest> {
        let present = self.present.as_ref().map(|version| &version.digest);
        let kept = self.known.as_ref().and_then(|known| known.prescribed(&self.source, present));
        kept.map(|version| &version.digest).or(present)
    }

    /// Whether somebody wants it to run.
    fn is_up(&self) -> bool {
        use Lifecycle::{Failed, Restarting, Running, Starting};
        matches!(self.state, Running | Starting | Restarting | Failed)
    }

    /// Whether it ran, or would run, with what it has.
    fn is_to_resume(&self) -> bool {
        let current = self.known.as_ref().map(|known| &known.current.digest);
        self.is_up() && (self.state != Lifecycle::Failed || self.next() != current)
    }

    /// The move as it is noted. Of a container that has never run, the image itself is all there is.
    fn moving(&self, name: &Name, attempt: Attempt) -> Versions {
        let first = || Versions::first(name.clone(), self.source.clone(), attempt.to.clone());
        Versions { attempt: Some(attempt.clone()), ..self.known.clone().unwrap_or_else(first) }
    }
}

/// Whether a unit is at rest, runs, or waits for its automatic restart.
fn is_settled(unit: &Unit) -> bool {
    match unit.active {
        Active::Active => true,
        Active::Inactive | Active::Failed => !unit.queued,
        Active::Activating => unit.sub.starts_with("auto-restart"),
        Active::Deactivating | Active::Reloading => false,
    }
}

/// The disk would not.
fn cannot_note(name: &Name, error: &std::io::Error) -> String {
    format!("cannot note the images of '{name}': {}", crate::error::reason(error))
}

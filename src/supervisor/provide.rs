//! The image of a start: what the store has, or what its source has now, by `[image] pull`.

use std::time::Duration;

use crate::{
    clock,
    config::ImagesConfig,
    image::{self, Hold, Reference, Source, Store},
    journal,
    pull::{self, End, Event, FetchError, Means, Obtain, Obtained, Watch},
    root::Root,
    spec::{Name, Pull},
};

/// How long a registry may send nothing before a start takes what is here, where that will do.
const SHORT: Duration = Duration::from_secs(20);

/// What a start needs of the store.
pub(super) struct Provide<'a> {
    /// Whose start.
    pub name: &'a Name,
    /// Which image.
    pub source: &'a Source,
    /// When its source is asked.
    pub pull: Pull,
    /// Where the store is.
    pub root: &'a Root,
    /// What is special about registries.
    pub config: &'a ImagesConfig,
    /// How long no byte may come.
    pub patience: Duration,
    /// How berth-pull is started.
    pub means: &'a Means,
    /// Who looks at a pull.
    pub watch: &'a Watch,
}

impl Provide<'_> {
    /// Has the image here, as far as `pull` allows, and keeps it from being removed. Whether it is here then, the plan
    /// will tell.
    ///
    /// # Errors
    /// One line for people: it cannot be had and must be, or the store cannot be used.
    pub fn run(&self) -> Result<Option<Hold>, String> {
        let store = Store::open(self.root).with_limits(self.config.limits());
        match self.source {
            Source::Rootfs { .. } => Ok(None),
            Source::Docker(reference) => self.of_registry(&store, reference).map(Some),
            source => self.of_this_host(&store, source).map(Some),
        }
    }

    /// An image of a registry. Nothing is held while it comes: that may take long, and others may remove theirs.
    fn of_registry(&self, store: &Store, reference: &Reference) -> Result<Hold, String> {
        let source = self.source;
        let mut asked = false;
        loop {
            let hold = store.hold().map_err(words)?;
            let found = store.find(source).map_err(words)?;
            // A digest is what it is; nobody need be asked again.
            let settled = found.is_some() && reference.digest.is_some();
            let wanted = match self.pull {
                Pull::Never => false,
                Pull::Missing => found.is_none(),
                Pull::Always | Pull::Newer => found.is_none() || !settled && !asked,
            };
            if !wanted {
                return Ok(hold);
            }
            if asked {
                return Err(format!("{source} was removed while it was pulled; start again"));
            }
            drop(hold);
            asked = true;
            match self.pull(reference, found.is_some()) {
                Err(why) if found.is_some() && self.may_be_old() => self.note_unchecked(&why),
                other => other?,
            }
        }
    }

    /// Whether what is here will do where its source cannot be asked.
    fn may_be_old(&self) -> bool {
        self.pull == Pull::Newer && self.watch.why() != Some(End::Unwanted)
    }

    /// Asks the registry, and fetches what it has.
    fn pull(&self, reference: &Reference, is_here: bool) -> Result<(), String> {
        let source = self.source;
        let limit = if is_here && self.pull == Pull::Newer { SHORT.min(self.patience) } else { self.patience };
        self.watch.begin(&source.to_string(), Some(limit));
        let order = Obtain {
            root: self.root,
            config: self.config,
            reference,
            missing: self.pull == Pull::Missing,
            means: self.means,
            watch: self.watch,
        };
        let mut heard = |event: &Event| {
            if let Event::Note { message } = event {
                tracing::info!("{}: {source}: {message}", self.name);
            }
        };
        let obtained = pull::obtain(&order, &mut heard, &());
        self.watch.rest();
        match obtained {
            Ok(Obtained::Fetched(image)) => {
                let message = format!("pulled {source}, {}", image.digest);
                journal::Event::ImagePulled.log_for(self.name, &message);
                Ok(())
            }
            Ok(Obtained::Shared(_) | Obtained::Unchanged(_)) => Ok(()),
            Err(error) => Err(self.why_not(reference, limit, &error)),
        }
    }

    /// Why an image could not be pulled.
    fn why_not(&self, reference: &Reference, limit: Duration, error: &FetchError) -> String {
        let source = self.source;
        if self.watch.why() != Some(End::Stalled) {
            return format!("cannot pull {source}: {}", error.message);
        }
        let last = self.watch.note().map(|note| format!(" (last: {note})")).unwrap_or_default();
        format!(
            "cannot pull {source}: no byte came from {} for {}{last}; {}, and the next start goes on from there; \
             service.start_timeout sets how long is waited",
            reference.registry,
            clock::span(limit),
            self.watch.far()
        )
    }

    /// An image that lies on this host as a layout or an archive.
    fn of_this_host(&self, store: &Store, source: &Source) -> Result<Hold, String> {
        let hold = store.hold().map_err(words)?;
        let found = store.find(source).map_err(words)?;
        match (found, self.pull) {
            (Some(_), Pull::Missing) | (_, Pull::Never) => {}
            (None, _) | (Some(_), Pull::Always) => drop(store.import(source, &()).map_err(words)?),
            (Some(found), Pull::Newer) => match store.import_newer(source, &found.digest, &()) {
                Ok(_) => {}
                Err(error) => self.note_unchecked(&words(error)),
            },
        }
        Ok(hold)
    }

    /// Says that the start goes on with what is here.
    fn note_unchecked(&self, why: &str) {
        let message = format!("starting with the image that is here: {why}");
        journal::Event::ImageUnchecked.log_for(self.name, &message);
    }
}

/// An error of the store's in one line.
fn words(error: image::Error) -> String {
    crate::error::chain(&error)
}

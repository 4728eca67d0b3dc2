//! Images that nothing uses, removed as `[images.gc]` says.

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use super::Supervisor;
use crate::{
    config::GcConfig,
    image::{self, Error, Removed, Rule},
    journal, pull,
    root::Root,
};

/// How soon it is tried again while somebody imports, or is about to use an image.
const RETRY: Duration = Duration::from_secs(10);

/// How long imports gather: a hundred starts are one look.
const GATHER: Duration = Duration::from_secs(1);

/// Looks at the start, after imports, and at the configured interval, for ever; where nothing is to be removed ever, it
/// sleeps until the configuration is read again.
pub(super) async fn serve(supervisor: Rc<Supervisor>) {
    loop {
        let gc = supervisor.config().images.gc;
        let pause = match gc.rule() {
            Some(rule) if supervisor.collect_images(rule).await => gc.interval,
            Some(_) => RETRY.min(gc.interval),
            None => Duration::MAX,
        };
        wait(&supervisor, gc, pause).await;
    }
}

/// Waits for a reason to look again.
async fn wait(supervisor: &Supervisor, gc: GcConfig, pause: Duration) {
    let news = async {
        loop {
            supervisor.imported.notified().await;
            if gc.rule().is_some() || supervisor.config().images.gc != gc {
                return tokio::time::sleep(GATHER).await;
            }
        }
    };
    if pause == Duration::MAX {
        news.await;
    } else {
        let _ = tokio::time::timeout(pause, news).await;
    }
}

impl Supervisor {
    /// Removes what a rule says. False where the store was in use and it is to be tried again.
    async fn collect_images(&self, rule: Rule) -> bool {
        let root = self.root().clone();
        let work = tokio::task::spawn_blocking(move || collect(&root, &rule));
        match work.await {
            Ok(Ok(Some(removed))) => tell(&removed),
            Ok(Ok(None)) => return false,
            Ok(Err(error)) => tracing::warn!("cannot remove images that nothing uses: {error}"),
            Err(error) => tracing::warn!("removing images that nothing uses broke off: {error}"),
        }
        true
    }
}

/// Removes what a rule says; where there is too much, also what fetches that were interrupted have left.
fn collect(root: &Root, rule: &Rule) -> Result<Option<Removed>, Error> {
    let store = image::Store::open(root);
    store.prepare()?;
    if let Some((high, _)) = rule.water
        && store.is_above(high)?
        && let Err(error) = pull::sweep(root)
    {
        tracing::warn!("cannot remove what interrupted fetches have left: {error}");
    }
    store.collect(rule, SystemTime::now(), &|| image::in_use(root))
}

/// Says what was removed, if anything was.
fn tell(removed: &Removed) {
    let names = removed.images.iter().map(ToString::to_string);
    let former = removed.former.iter().map(|(source, digest)| format!("{source} as it was ({})", digest.short()));
    let names: Vec<String> = names.chain(former).collect();
    if names.is_empty() && removed.layers == 0 {
        return;
    }
    let what = if names.is_empty() { "layers without an image".to_owned() } else { names.join(", ") };
    let Removed { layers, bytes, .. } = removed;
    journal::Event::ImagesRemoved.log(&format!("removed {what}: {layers} layers, {bytes} bytes freed"));
}

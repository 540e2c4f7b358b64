//! Images on this host: built or imported into a cache that outlives them, equal ones once.
//!
//! An Image's own effects are all in the cache, which is worth keeping when the object goes (the next Image of the same
//! recipe is there at once); so there is no finalizer here.

pub mod error;
pub mod plan;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use crds::{Image, ImageStatus};
use host::image::{Built, Progress, Recipe};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tokio::sync::{Semaphore, watch};

use crate::objects::Objects;
use crate::shelf::Shelf;
use control_loop::{Cache, Failure, Reconciler, Retry, sentence};
use error::Error;

/// Builds at once: each fills a core and a disk's queue.
const BUILDS: usize = 2;
/// Between two writes of a build's progress.
const TELL: Duration = Duration::from_secs(2);

/// The judgement over images.
pub struct Images {
    objects: Arc<Objects>,
    images: Cache<Image>,
    shelf: Arc<Shelf>,
    slots: Semaphore,
}

impl Images {
    /// Builds into `shelf`.
    pub fn new(objects: Arc<Objects>, images: Cache<Image>, shelf: Arc<Shelf>) -> Self {
        Self { objects, images, shelf, slots: Semaphore::new(BUILDS) }
    }
}

impl Reconciler for Images {
    type Kind = Image;
    type Error = Error;

    async fn reconcile(&self, image: Arc<Image>) -> Result<Action, Error> {
        if image.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        match self.realise(&image).await {
            Ok(status) => {
                self.objects.publish(&*image, status).await?;
                Ok(Action::await_change())
            }
            Err(error) => {
                let last = error.retry() == Retry::OnChange;
                let status = status::failed(&image, error.category(), sentence(&error), last);
                self.objects.publish(&*image, status).await?;
                Err(error)
            }
        }
    }
}

impl Images {
    async fn realise(&self, image: &Image) -> Result<ImageStatus, Error> {
        if let Some(built) = self.present(image).await? {
            return Ok(status::ready(image, &built));
        }
        let base = match &image.spec.layer {
            None => None,
            Some(layer) => match self.base(image, &layer.image) {
                Some(key) => Some(key),
                None => return Ok(status::waiting(image, &layer.image)),
            },
        };
        let recipe = plan::recipe(&image.spec, base)?;
        let built = self.build(image, recipe).await?;
        self.objects.event(image, false, "Built", "Build", format!("The image is ready: {}.", built.key)).await;
        Ok(status::ready(image, &built))
    }

    /// What was built for this very spec, when it is still there: newer packages alone are no reason to build again.
    async fn present(&self, image: &Image) -> Result<Option<Built>, Error> {
        let status = image.status.clone().unwrap_or_default();
        match status.key {
            Some(key) if status.observed_generation == image.metadata.generation => Ok(self.shelf.look(&key).await?),
            _ => Ok(None),
        }
    }

    fn base(&self, image: &Image, name: &str) -> Option<String> {
        let base = self.images.get(&image.namespace().unwrap_or_default(), name)?;
        status::key_when_ready(&base)
    }

    /// Builds, and tells how far it is now and then.
    async fn build(&self, image: &Image, recipe: Recipe) -> Result<Built, Error> {
        let (progress, mut told) = watch::channel(None::<Progress>);
        self.objects.publish(image, status::building(image, "waiting for a free builder")).await?;
        let _slot = self.slots.acquire().await.map_err(|_| Error::Stopping)?;
        let mut build = std::pin::pin!(self.shelf.build(&recipe, move |step| drop(progress.send(Some(step)))));
        let mut clock = tokio::time::interval(TELL);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                built = &mut build => return Ok(built?),
                _ = clock.tick() => {
                    let changed = told.has_changed().unwrap_or_default();
                    let step = told.borrow_and_update().clone();
                    if let Some(step) = step.filter(|_| changed) {
                        self.objects.publish(image, status::building(image, &plan::render(&step))).await?;
                    }
                }
            }
        }
    }
}

//! The image's status. Pure.

use crds::condition::{READY, RECONCILING, STALLED, clear, is_true, set};
use crds::image::ImagePhase;
use crds::{Image, ImageStatus};
use host::image::Built;

/// Key of an image that can be built upon.
pub fn key_when_ready(image: &Image) -> Option<String> {
    let status = image.status.as_ref()?;
    status.key.clone().filter(|_| is_true(&status.conditions, READY))
}

/// It is there.
pub fn ready(image: &Image, built: &Built) -> ImageStatus {
    let mut status = base(image, ImagePhase::Ready, true, "Built", String::new());
    status.key = Some(built.key.clone());
    status.digest = Some(format!("sha256:{}", built.digest));
    status.kernel_version = Some(built.kernel_version.clone()).filter(|version| !version.is_empty());
    status.size_bytes = Some(built.size_bytes);
    status
}

/// It is being built.
pub fn building(image: &Image, progress: &str) -> ImageStatus {
    let mut status = base(image, ImagePhase::Building, false, "Building", "The image is being built.".to_owned());
    status.progress = Some(progress.to_owned());
    status
}

/// The image below is not there yet.
pub fn waiting(image: &Image, below: &str) -> ImageStatus {
    let message = format!("Image {below}, which this one rests on, is not ready on this host.");
    base(image, ImagePhase::Pending, false, "BaseNotReady", message)
}

/// It could not be built.
pub fn failed(image: &Image, reason: &str, message: String, last: bool) -> ImageStatus {
    let mut status = base(image, ImagePhase::Failed, false, reason, message.clone());
    if last {
        clear(&mut status.conditions, RECONCILING);
        set(&mut status.conditions, STALLED, true, reason, message, image.metadata.generation);
    }
    status
}

fn base(image: &Image, phase: ImagePhase, holds: bool, reason: &str, message: String) -> ImageStatus {
    let mut conditions = image.status.clone().unwrap_or_default().conditions;
    let generation = image.metadata.generation;
    set(&mut conditions, READY, holds, reason, message, generation);
    clear(&mut conditions, STALLED);
    match holds {
        true => clear(&mut conditions, RECONCILING),
        false => set(&mut conditions, RECONCILING, true, reason, "", generation),
    };
    ImageStatus { observed_generation: generation, phase, conditions, ..ImageStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::ImageSpec;
    use crds::condition::find;

    fn image() -> Image {
        let spec: ImageSpec = serde_json::from_value(serde_json::json!({"debian": {}})).unwrap();
        Image::new("base", spec)
    }

    #[test]
    fn a_failure_that_only_a_change_cures_is_stalled_and_cured_by_success() {
        let mut image = image();
        image.status = Some(failed(&image, "UnknownPackage", "no such package".into(), true));
        let status = image.status.as_ref().unwrap();
        assert!(is_true(&status.conditions, STALLED) && find(&status.conditions, RECONCILING).is_none());
        let next = building(&image, "10% unpacking");
        assert!(find(&next.conditions, STALLED).is_none());
        assert_eq!(next.progress.as_deref(), Some("10% unpacking"));
    }

    #[test]
    fn only_a_ready_image_has_a_key_to_build_upon() {
        let mut image = image();
        assert_eq!(key_when_ready(&image), None);
        let mut status = base(&image, ImagePhase::Ready, true, "Built", String::new());
        status.key = Some("k".into());
        image.status = Some(status);
        assert_eq!(key_when_ready(&image).as_deref(), Some("k"));
    }
}

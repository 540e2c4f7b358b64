//! From an Image's spec to the builder's recipe: pure.

use crds::ImageSpec;
use crds::image::{FileEntry, Package, Unit};
use host::image::{self, DiskFormat, Progress, Recipe, Source};

use super::error::Error;

/// The recipe; `base` is the key of the image below a layer.
pub fn recipe(spec: &ImageSpec, base: Option<String>) -> Result<Recipe, Error> {
    let disk_bytes = spec.disk_size.as_ref().map(|size| size.bytes()).transpose();
    Ok(Recipe {
        source: source(spec, base)?,
        files: spec.files.iter().map(file).collect::<Result<_, _>>()?,
        units: spec.units.iter().map(unit).collect(),
        disk_bytes: disk_bytes.map_err(|error| bad("spec.diskSize", error.to_string()))?,
    })
}

fn source(spec: &ImageSpec, base: Option<String>) -> Result<Source, Error> {
    match (&spec.debian, &spec.layer, &spec.file) {
        (Some(debian), None, None) => Ok(Source::Debian {
            suite: debian.suite.clone(),
            packages: words(&debian.packages),
            kernel_package: debian.kernel_package.0.clone(),
        }),
        (None, Some(layer), None) => Ok(Source::Layer {
            base: base.ok_or_else(|| bad("spec.layer.image", "the image below is not built".into()))?,
            packages: words(&layer.packages),
        }),
        (None, None, Some(file)) => Ok(Source::File {
            path: file.path.clone().into(),
            sha256: file.digest.clone(),
            format: if file.format == "qcow2" { DiskFormat::Qcow2 } else { DiskFormat::Raw },
            kernel: file.kernel.clone().map(Into::into),
            initrd: file.initrd.clone().map(Into::into),
        }),
        _ => Err(bad("spec", "exactly one of debian, layer or file must be given".into())),
    }
}

fn words(packages: &[Package]) -> Vec<String> {
    packages.iter().map(|package| package.0.clone()).collect()
}

fn file(entry: &FileEntry) -> Result<image::FileEntry, Error> {
    let mode = u32::from_str_radix(&entry.mode, 8)
        .map_err(|_| bad(&format!("spec.files[{}].mode", entry.path), "it must be octal, such as 0644".into()))?;
    Ok(image::FileEntry { path: entry.path.clone(), content: entry.content.clone().into_bytes(), mode })
}

fn unit(unit: &Unit) -> image::Unit {
    image::Unit { name: unit.name.clone(), content: unit.content.clone(), enabled: unit.enabled, masked: unit.masked }
}

/// Progress as the status shows it.
pub fn render(progress: &Progress) -> String {
    format!("{}% {}", progress.percent, progress.step)
}

fn bad(field: &str, reason: String) -> Error {
    Error::Spec { field: field.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> ImageSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_debian_recipe_says_what_the_spec_says() {
        let spec = spec(json!({
            "debian": {"packages": ["etcd-server"]},
            "files": [{"path": "/etc/motd", "content": "hi", "mode": "0600"}],
            "units": [{"name": "a.service", "enabled": true}],
            "diskSize": "2Gi",
        }));
        let recipe = recipe(&spec, None).unwrap();
        let Source::Debian { suite, packages, kernel_package } = &recipe.source else { unreachable!() };
        assert_eq!((suite.as_str(), packages.len()), ("bookworm", 1));
        assert_eq!(kernel_package, "linux-image-cloud-amd64");
        assert_eq!((recipe.files[0].mode, recipe.disk_bytes), (0o600, Some(2 << 30)));
        assert!(recipe.units[0].enabled);
    }

    #[test]
    fn a_layer_needs_its_base() {
        let spec = spec(json!({"layer": {"image": "base"}}));
        assert!(recipe(&spec, None).is_err());
        let built = recipe(&spec, Some("abc".into())).unwrap();
        assert!(matches!(built.source, Source::Layer { base, .. } if base == "abc"));
    }
}

//! What kinds the server has, by every name users call them: plural, singular, short, `plural.group`, category.

use anyhow::{Context, Result, bail};
use http::Request;
use kube::Client;
use serde_json::Value;

/// One kind at its preferred version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name, as it stands in URLs.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Kind.
    pub kind: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// Verbs served.
    pub verbs: Vec<String>,
}

impl Resource {
    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, as kubectl names a kind in messages and in `-o name`.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `singular.group`, in front of an object's name.
    pub fn object_name(&self, name: &str) -> String {
        if self.group.is_empty() {
            format!("{}/{name}", self.singular)
        } else {
            format!("{}.{}/{name}", self.singular, self.group)
        }
    }

    /// The URL of the collection; `None` for all namespaces.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }

    /// The URL of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }

    fn is_called(&self, word: &str) -> bool {
        let (name, group) = word.split_once('.').unwrap_or((word, ""));
        let named = self.plural == name
            || self.singular == name
            || self.kind.eq_ignore_ascii_case(name)
            || self.short_names.iter().any(|short| short == name);
        named && (group.is_empty() || group == self.group || group == format!("{}.{}", self.version, self.group))
    }
}

/// Every kind the server has.
pub struct Catalog(Vec<Resource>);

impl Catalog {
    /// Asks the server (aggregated discovery, two requests).
    pub async fn load(client: &Client) -> Result<Self> {
        let mut all = Vec::new();
        for path in ["/apis", "/api"] {
            let request = Request::get(path)
                .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
                .body(Vec::new())
                .context("failed to make a request")?;
            let document: Value = client.request(request).await.map_err(super::api::said)?;
            for group in document["items"].as_array().into_iter().flatten() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                // The first version is the preferred one.
                if let Some(version) = group["versions"].as_array().and_then(|versions| versions.first()) {
                    let number = version["version"].as_str().unwrap_or_default();
                    let resources = version["resources"].as_array();
                    all.extend(resources.into_iter().flatten().map(|resource| parse(name, number, resource)));
                }
            }
        }
        Ok(Self(all))
    }

    /// The kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter()
    }

    /// The kind a user means by `word`.
    pub fn find(&self, word: &str) -> Result<&Resource> {
        let lower = word.to_ascii_lowercase();
        // Our own kinds win over others of the same name, so that `node` means a Cluster's Node.
        let mut found: Vec<&Resource> = self.0.iter().filter(|r| r.is_called(&lower)).collect();
        found.sort_by_key(|r| r.group != crds::GROUP);
        match found.first() {
            Some(resource) => Ok(resource),
            None => bail!("the server doesn't have a resource type {word:?}; `clusterctl api-resources` lists them"),
        }
    }

    /// The kind of a manifest.
    pub fn of_manifest(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        match self.0.iter().find(|r| r.kind == kind && r.api_version() == api_version) {
            Some(resource) => Ok(resource),
            None => bail!(
                "no matches for kind {kind:?} in version {api_version:?}; `clusterctl api-resources` lists what there is"
            ),
        }
    }

    /// The kinds of a comma-separated list; a category stands for its members, `all` for every kind of ours.
    pub fn select(&self, words: &str) -> Result<Vec<&Resource>> {
        let mut selected = Vec::new();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let category = if word == "all" { "photon" } else { word };
            let members: Vec<&Resource> =
                self.0.iter().filter(|r| r.categories.iter().any(|c| c == category)).collect();
            if members.is_empty() {
                selected.push(self.find(word)?);
            } else {
                selected.extend(members);
            }
        }
        Ok(selected)
    }
}

fn parse(group: &str, version: &str, resource: &Value) -> Resource {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: text(&resource["resource"]),
        singular: text(&resource["singularResource"]),
        kind: text(&resource["responseKind"]["kind"]),
        short_names: list(&resource["shortNames"]),
        categories: list(&resource["categories"]),
        namespaced: resource["scope"] == "Namespaced",
        verbs: list(&resource["verbs"]),
    }
}

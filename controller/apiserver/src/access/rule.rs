//! One rule: which verbs on which things. Pure: whether it allows a request, and whether it contains another rule.

use serde_json::{Map, Value, json};

use super::attributes::{Attributes, Named, What};

/// `*`: every verb, group, resource.
const ALL: &str = "*";

/// A `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups.
    pub api_groups: Vec<String>,
    /// Plurals, `PLURAL/SUBRESOURCE`, or `*/SUBRESOURCE`.
    pub resources: Vec<String>,
    /// Names; none means every object.
    pub resource_names: Vec<String>,
    /// Paths outside the resources; a trailing `*` stands for any rest.
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// The rules of a role's document.
    #[must_use]
    pub fn all_of(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::of).collect()
    }

    fn of(value: &Value) -> Self {
        let words = |field: &str| {
            let list = value[field].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: words("verbs"),
            api_groups: words("apiGroups"),
            resources: words("resources"),
            resource_names: words("resourceNames"),
            non_resource_urls: words("nonResourceURLs"),
        }
    }

    /// Everything there is: what an aggregating role may come to contain.
    #[must_use]
    pub fn everything() -> Vec<Self> {
        let all = || vec![ALL.to_owned()];
        vec![
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), non_resource_urls: all(), ..Self::default() },
        ]
    }

    /// The rule as the review documents show it; empty lists are left out.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut map = Map::new();
        for (field, words) in [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ] {
            if !words.is_empty() {
                map.insert(field.to_owned(), json!(words));
            }
        }
        Value::Object(map)
    }

    /// Whether the rule allows the request.
    #[must_use]
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && match &asked.what {
                What::Path(path) => self.non_resource_urls.iter().any(|url| covers_path(url, path)),
                What::Resource(named) => self.allows_resource(named),
            }
    }

    fn allows_resource(&self, named: &Named<'_>) -> bool {
        has(&self.api_groups, named.group)
            && self.resources.iter().any(|resource| names(resource, named.resource, named.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == named.name))
    }

    /// Whether everything that `other`, a rule of one part each, allows is allowed by this rule.
    fn contains(&self, other: &Self) -> bool {
        let all = |ours: &[String], theirs: &[String]| theirs.iter().all(|word| has(ours, word));
        let names_fit = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|name| self.resource_names.contains(name)));
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|resource| self.has_resource(resource))
            && other.non_resource_urls.iter().all(|path| self.has_path(path))
            && names_fit
    }

    fn has_resource(&self, wanted: &str) -> bool {
        let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
        self.resources.iter().any(|ours| names(ours, resource, subresource))
    }

    fn has_path(&self, wanted: &str) -> bool {
        self.non_resource_urls.iter().any(|ours| ours == wanted || covers_path(ours, wanted))
    }

    /// The rule as many rules of one part each.
    fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let one = |word: &String| vec![word.clone()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    match self.resource_names.is_empty() {
                        true => parts.push(part),
                        false => parts.extend(
                            self.resource_names.iter().map(|name| Self { resource_names: one(name), ..part.clone() }),
                        ),
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            let of_verb = |verb| Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() };
            parts.extend(self.verbs.iter().map(of_verb));
        }
        parts
    }

    /// Whether both are about the same things, whatever may be done to them.
    fn same_things(&self, other: &Self) -> bool {
        self.api_groups == other.api_groups
            && self.resources == other.resources
            && self.resource_names == other.resource_names
            && self.non_resource_urls == other.non_resource_urls
    }

    /// `{APIGroups:["a"], Resources:["b"], Verbs:["c"]}`, as refused grants are described.
    #[must_use]
    pub fn described(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = fields
            .iter()
            .filter(|(_, words)| !words.is_empty())
            .map(|(field, words)| format!("{field}:{}", quoted(words)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// What `wanted` allows and `held` does not, with the verbs of one resource put together.
#[must_use]
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    for part in wanted.iter().flat_map(Rule::parts) {
        if held.iter().any(|rule| rule.contains(&part)) {
            continue;
        }
        match missing.iter_mut().find(|known| known.same_things(&part)) {
            Some(known) => part.verbs.into_iter().for_each(|verb| {
                if !known.verbs.contains(&verb) {
                    known.verbs.push(verb);
                }
            }),
            None => missing.push(part),
        }
    }
    missing
}

/// `["a" "b"]`, as Go writes a list of strings.
#[must_use]
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == ALL || word == wanted)
}

/// Whether a rule's word for a resource means this one.
fn names(word: &str, resource: &str, subresource: &str) -> bool {
    if word == ALL {
        return true;
    }
    match (word.split_once('/'), subresource) {
        (None, "") => word == resource,
        (None, _) | (Some(_), "") => false,
        (Some((of, sub)), subresource) => sub == subresource && (of == ALL || of == resource),
    }
}

fn covers_path(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => url == path,
    }
}

#[cfg(test)]
mod tests;

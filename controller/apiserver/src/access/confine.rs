//! Callers that see only what is theirs.
//!
//! Rules say which kinds a caller may touch; they cannot say "those objects that are assigned to me". The agent of a host
//! has to read machines, but not all machines. So a group of callers can be confined: of certain resources its members
//! reach only the objects that bear their own name, as the object's name or in a field. This narrows what the rules allow
//! and never widens it. Which groups, resources and fields, is told by whoever builds the server.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Access;
use super::attributes::Attributes;
use super::index::Index;
use crate::error::Error;
use crate::identity::Identity;
use crate::object::{meta, metadata_mut};
use crate::registry::Resource;
use crate::request::path::Verb;
use crate::schema::selector::FieldSelector;

/// A group of callers that reach only what is theirs.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Its members are confined.
    pub group: String,
    /// Their user names are this and then the name that their objects bear.
    pub user_prefix: String,
    /// Whether a namespace and a colon stand before the name: then only what is in that namespace is the caller's.
    pub namespaced: bool,
    /// The resources in which they are confined; of others, the rules alone decide.
    pub resources: Vec<Confined>,
}

/// A resource of which a caller reaches only its own objects.
#[derive(Debug, Clone)]
pub struct Confined {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Which objects are the caller's.
    pub tie: Tie,
    /// What may be read besides; writes are always confined.
    pub reads: Reads,
    /// Whether the caller may change nothing but finalizers (and, by their own doors, subresources).
    pub finalizers_only: bool,
}

/// What a confined caller may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// Its own objects.
    Own,
    /// Lists and watches may also select by this field, such as `spec.network`, if an object of the caller's in the same
    /// namespace has the same value there: who is on a network has to know who else is.
    Sharing(String),
    /// Every object.
    All,
}

/// What ties an object to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tie {
    /// It has the caller's name.
    Name,
    /// This field, a path such as `spec.host`, holds the caller's name. Lists have to select by it.
    Field(String),
    /// Its name leads, in these steps from object to object of its namespace, to the caller's. It may be read by its name and not
    /// written; nothing is listed.
    Led(Vec<Step>),
}

/// A step from some names to others: from an object that names one of them to whom it names besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// API group of the object.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Its field, a path such as `metadata.name`, that holds one of the names, or a list with one.
    pub from: String,
    /// Its field that holds the next.
    pub to: String,
}

impl Tie {
    fn of<'o>(&self, object: &'o Value) -> &'o str {
        match self {
            Self::Name => meta(object, "name"),
            Self::Field(path) => {
                path.split('.').try_fold(object, |value, step| value.get(step)).and_then(Value::as_str).unwrap_or("")
            }
            Self::Led(_) => "",
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Name | Self::Led(_) => "metadata.name",
            Self::Field(path) => path,
        }
    }
}

/// The confinement that one caller is under in one resource.
#[derive(Clone, Copy)]
pub(crate) struct Own<'c> {
    index: &'c Index,
    confined: &'c Confined,
    /// The name that the caller's objects bear; none when the caller's user name says none.
    name: Option<&'c str>,
    /// The namespace that they are in, when that is told.
    namespace: Option<&'c str>,
}

impl Access {
    /// Why a caller with a namespace of its own has no business where it asks for something: whether there is anything of
    /// that name in another tenant's namespace is not its to know.
    pub(crate) fn away_from_home(&self, caller: &Identity, asked: &Attributes<'_>) -> Option<String> {
        let namespace = asked.namespace();
        let homes = self.confinements.iter().filter(|c| c.namespaced && caller.groups.contains(&c.group));
        let mut homes = homes.map(|c| c.parts_of(&caller.user).0.unwrap_or(""));
        homes
            .find(|home| !namespace.is_empty() && *home != namespace)
            .map(|home| format!("it is confined to the namespace {home:?}"))
    }

    /// What confines this caller in this resource.
    pub(crate) fn confined<'a>(&'a self, caller: &'a Identity, resource: &Resource) -> Option<Own<'a>> {
        self.confinements.iter().find_map(|confinement| {
            let member = caller.groups.contains(&confinement.group);
            let confined =
                confinement.resources.iter().filter(|_| member).find(|c| resource.is(&c.group, &c.resource))?;
            let (namespace, name) = confinement.parts_of(&caller.user);
            Some(Own { index: &self.index, confined, name: name.filter(|name| !name.is_empty()), namespace })
        })
    }
}

impl Confinement {
    /// The namespace, if one counts, and the name that a user name tells.
    fn parts_of<'u>(&self, user: &'u str) -> (Option<&'u str>, Option<&'u str>) {
        let whose = user.strip_prefix(self.user_prefix.as_str());
        match whose.and_then(|whose| whose.split_once(':')) {
            Some((namespace, name)) if self.namespaced => (Some(namespace), Some(name)),
            _ if self.namespaced => (None, None),
            _ => (None, whose),
        }
    }
}

impl Own<'_> {
    /// Whether the caller may read an object.
    pub(crate) fn check_read(&self, asked: &Attributes<'_>, user: &str, object: &Value) -> Result<(), Error> {
        match self.confined.reads {
            Reads::All if self.is_home(meta(object, "namespace")) => Ok(()),
            _ => self.check(asked, user, object),
        }
    }

    /// Whether an object is the caller's.
    fn check(&self, asked: &Attributes<'_>, user: &str, object: &Value) -> Result<(), Error> {
        if matches!(self.confined.tie, Tie::Led(_)) && asked.verb != Verb::Get.word() {
            return Err(asked.refusal(user, "it may be read and not written"));
        }
        match self.name {
            Some(name) if self.is_tied(object, name) && self.is_home(meta(object, "namespace")) => Ok(()),
            _ => Err(asked.refusal(user, &self.why())),
        }
    }

    fn is_tied(&self, object: &Value, name: &str) -> bool {
        match &self.confined.tie {
            Tie::Led(steps) => self.leads(object, name, steps),
            tie => tie.of(object) == name,
        }
    }

    /// Whether the steps lead from the object's name to this one.
    fn leads(&self, object: &Value, name: &str, steps: &[Step]) -> bool {
        let namespace = meta(object, "namespace");
        let mut names = BTreeSet::from([meta(object, "name").to_owned()]);
        for step in steps {
            if namespace.is_empty() || names.is_empty() {
                return false;
            }
            let objects = self.index.objects_of(&step.group, &step.resource, namespace);
            let named = objects.iter().map(|one| &one.value).filter(|one| {
                let mut here = BTreeSet::new();
                collect(one, &step.from, &mut here);
                !here.is_disjoint(&names)
            });
            let mut next = BTreeSet::new();
            named.for_each(|one| collect(one, &step.to, &mut next));
            names = next;
        }
        names.contains(name)
    }

    /// Whether a change keeps to what the caller may change.
    pub(crate) fn check_change(
        &self,
        asked: &Attributes<'_>,
        user: &str,
        (old, new): (Option<&Value>, &Value),
        whole: bool,
    ) -> Result<(), Error> {
        self.check(asked, user, new)?;
        let Some(old) = old else { return Ok(()) };
        self.check(asked, user, old)?;
        if whole && self.confined.finalizers_only && without_finalizers(old) != without_finalizers(new) {
            return Err(asked.refusal(user, "only metadata.finalizers may be changed here"));
        }
        Ok(())
    }

    /// Whether a list or watch asks for what the caller may read. `found` says whether there is an object, where the
    /// list looks, that passes a test.
    pub(crate) fn check_selector(
        &self,
        asked: &Attributes<'_>,
        user: &str,
        fields: &FieldSelector,
        found: impl Fn(&dyn Fn(&Value) -> bool) -> bool,
    ) -> Result<(), Error> {
        let path = self.confined.tie.path();
        if matches!(self.confined.tie, Tie::Led(_)) {
            return Err(asked.refusal(user, "only single objects may be read here, by their names"));
        }
        if !self.is_home(asked.namespace()) {
            return Err(asked.refusal(user, &self.why()));
        }
        let reads = asked.verb != "deletecollection";
        let shares = |name: &str| match &self.confined.reads {
            Reads::Sharing(field) if reads => fields.demanded(field).is_some_and(|value| {
                let field = Tie::Field(field.clone());
                found(&|object| self.confined.tie.of(object) == name && field.of(object) == value)
            }),
            _ => false,
        };
        match self.name {
            Some(_) if self.confined.reads == Reads::All && reads => Ok(()),
            Some(name) if fields.demanded(path) == Some(name) || shares(name) => Ok(()),
            Some(name) => Err(asked.refusal(user, &format!("the field selector {path}={name} is needed"))),
            None => Err(asked.refusal(user, &self.why())),
        }
    }

    /// Whether this is the namespace of the caller's objects.
    fn is_home(&self, namespace: &str) -> bool {
        self.namespace.is_none_or(|home| home == namespace)
    }

    fn why(&self) -> String {
        let path = self.confined.tie.path();
        match self.name {
            Some(name) if self.namespace.is_some() => {
                format!("{path} of the object is not {name:?}, in {:?}", self.namespace.unwrap_or_default())
            }
            Some(name) if matches!(self.confined.tie, Tie::Led(_)) => {
                format!("nothing that is of {name:?} leads to the object")
            }
            Some(name) => format!("{path} of the object is not {name:?}"),
            None => "the user name does not say whose objects it stands for".to_owned(),
        }
    }
}

/// The texts at a path, where a list stands for all its members.
fn collect(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match (value, path.split_once('.').unwrap_or((path, ""))) {
        (Value::Array(all), _) => all.iter().for_each(|one| collect(one, path, into)),
        (Value::String(text), ("", "")) => drop(into.insert(text.clone())),
        (Value::Object(fields), (first, rest)) => {
            if let Some(field) = fields.get(first) {
                collect(field, rest, into);
            }
        }
        _ => {}
    }
}

fn without_finalizers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = metadata_mut(&mut object) {
        for field in ["finalizers", "managedFields", "generation", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    object
}

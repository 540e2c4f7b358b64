//! Who may do what.
//!
//! ```text
//!  Identity ┐
//!           ├─► Access::authorize ── rules of the caller's bindings ──► yes │ 403
//!  Attributes┘         │
//!                      └ `index`: roles and bindings as the store's cache has them, arranged by caller
//!
//!  an allowed write ──► `Call::may_store`: escalation (`grants`), objects of one's own (`confine`)
//! ```
//!
//! The rules are Kubernetes' RBAC: they only ever allow, and what no rule allows is forbidden. Members of `system:masters`
//! are not asked. `attributes`, `rule` and `policy` are pure.

mod aggregate;
mod attributes;
mod confine;
mod defaults;
mod grants;
mod index;
pub(crate) mod kinds;
mod policy;
pub(crate) mod reviews;
mod rule;

pub use confine::{Confined, Confinement, Reads, Step, Tie};

pub(crate) use aggregate::run as aggregate;
pub(crate) use attributes::{Attributes, Named};

use attributes::What;

use serde_json::Value;
use store::Store;

use crate::dispatch::Call;
use crate::error::Error;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::read::Selection;
use crate::registry::Resource;
use crate::request::path::Verb;
use crate::schema::selector::FieldSelector;
use index::Index;
use policy::Decision;

/// The judge.
pub(crate) struct Access {
    index: Index,
    confinements: Vec<Confinement>,
    metrics: Metrics,
}

impl Access {
    /// A judge over the roles and bindings of a store.
    pub(crate) async fn new(store: Store, confinements: Vec<Confinement>, metrics: Metrics) -> Result<Self, Error> {
        Ok(Self { index: Index::new(store).await?, confinements, metrics })
    }

    /// Lets the request pass, or refuses it.
    pub(crate) fn authorize(&self, caller: &Identity, asked: &Attributes<'_>) -> Result<(), Error> {
        let answer = self.answer(caller, asked);
        self.metrics.decided(answer.is_ok());
        answer.map(drop).map_err(|why| asked.refusal(&caller.user, &why))
    }

    /// Whether the request would pass, and why, or why not.
    fn answer(&self, caller: &Identity, asked: &Attributes<'_>) -> Result<Reason, String> {
        if caller.is_master() {
            return Ok(Reason::Master);
        }
        if let Some(why) = self.away_from_home(caller, asked) {
            return Err(why);
        }
        match self.index.current().decide(caller, asked) {
            Decision::Allowed(grant) => Ok(Reason::Granted(grant)),
            Decision::NoOpinion(why) => Err(why),
        }
    }

    /// Whether an object is within what the caller is confined to, if it is confined at all.
    pub(crate) fn may_reach(
        &self,
        caller: &Identity,
        resource: &Resource,
        asked: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Error> {
        self.confined(caller, resource).map_or(Ok(()), |own| own.check_read(asked, &caller.user, object))
    }

    fn allows(&self, caller: &Identity, asked: &Attributes<'_>) -> bool {
        self.answer(caller, asked).is_ok()
    }
}

/// Why something is allowed; put into words only when somebody asks.
enum Reason {
    Master,
    Granted(std::sync::Arc<policy::Grant>),
}

impl Reason {
    fn text(&self) -> String {
        match self {
            Self::Master => String::new(),
            Self::Granted(grant) => grant.reason(),
        }
    }
}

impl Call {
    fn attributes(&self) -> Attributes<'_> {
        let definition = &self.resource.definition;
        let own = self.resource.is("", "namespaces");
        let namespace = if own { Some(self.name.as_str()) } else { self.namespace.as_deref() };
        Attributes::special(
            self.verb.word(),
            Named {
                group: &definition.group,
                resource: &definition.plural,
                subresource: self.subresource.as_deref().unwrap_or(""),
                namespace: namespace.unwrap_or(""),
                name: &self.name,
            },
        )
    }

    /// Whether the caller may see this object of the addressed kind.
    pub(crate) fn may_see(&self, object: &Value) -> Result<(), Error> {
        self.access.may_reach(&self.identity, &self.resource, &self.attributes(), object)
    }

    /// Whether the caller is to be shown its own objects alone.
    pub(crate) fn is_confined(&self) -> bool {
        self.access.confined(&self.identity, &self.resource).is_some()
    }

    /// Whether the caller may ask for what these selectors leave of a collection.
    pub(crate) fn may_select(&self, fields: &FieldSelector) -> Result<(), Error> {
        match self.access.confined(&self.identity, &self.resource) {
            None => Ok(()),
            Some(own) => {
                let found = |wanted: &dyn Fn(&Value) -> bool| {
                    let objects = self.access.index.objects(&self.resource, self.namespace.as_deref());
                    self.namespace.is_some() && objects.iter().any(|object| wanted(self.resource.view(object).value()))
                };
                own.check_selector(&self.attributes(), &self.identity.user, fields, found)
            }
        }
    }

    /// Whether the caller may still see what it has been watching for a while.
    pub(crate) fn may_still_watch(&self) -> bool {
        let mut asked = self.attributes();
        if let (What::Resource(named), true) = (&mut asked.what, self.name.is_empty()) {
            named.name = self.query.selected_name().unwrap_or("");
        }
        self.access.allows(&self.identity, &asked) && Selection::of(self).is_ok()
    }

    /// Whether the caller may make the object that its patch did not find.
    pub(crate) fn may_create(&self) -> Result<(), Error> {
        self.access.authorize(&self.identity, &Attributes { verb: Verb::Create.word(), ..self.attributes() })
    }

    /// Whether the caller may turn `old` (nothing, for a create) into `new`: the last question before every write.
    pub(crate) fn may_store(&self, old: Option<&Value>, new: &Value) -> Result<(), Error> {
        if let Some(own) = self.access.confined(&self.identity, &self.resource) {
            let whole = self.subresource.as_deref() != Some("status");
            own.check_change(&self.attributes(), &self.identity.user, (old, new), whole)?;
        }
        self.access.check_grant(&self.identity, &self.resource, old, new)
    }
}

//! Collections: selected, paged, all of one revision.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::{Consistency, Entry, Revision};

use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{Object, View};
use crate::registry::Resource;
use crate::request::accept::Form;
use crate::request::query::RevisionMatch;
use crate::schema::selector::{FieldSelector, LabelSelector};
use crate::server::Server;
use crate::storage;

/// Objects decoded or written between two yields to other requests.
pub(crate) const SLICE: usize = 512;

/// Which objects of a collection are meant.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    resource: Resource,
    all: bool,
}

impl Selection {
    /// The selectors of a request, which also cover a name in a watch's path.
    pub(crate) fn of(call: &Call) -> Result<Self, Error> {
        let refuse = |error: crate::schema::selector::SelectorError| Error::BadRequest(error.to_string());
        let labels = LabelSelector::parse(&call.query.label_selector).map_err(refuse)?;
        let mut text = call.query.field_selector.clone();
        if !call.name.is_empty() {
            let separator = if text.is_empty() { "" } else { "," };
            text = format!("{text}{separator}metadata.name={}", call.name);
        }
        let definition = &call.resource.definition;
        let fields = FieldSelector::parse(&text, definition, call.resource.version()).map_err(refuse)?;
        call.may_select(&fields)?;
        let all = labels.is_everything() && fields.is_everything();
        Ok(Self { labels, fields, resource: call.resource.clone(), all })
    }

    /// Whether every object is meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.all
    }

    /// Whether the object is meant.
    pub(crate) fn matches(&self, object: &Arc<Object>) -> bool {
        if self.all {
            return true;
        }
        if !self.labels.matches(&object.value) {
            return false;
        }
        self.fields.is_everything() || self.fields.matches(self.resource.view(object).value())
    }
}

/// One object of a page.
pub(crate) enum Item {
    /// To be answered as it is stored.
    Stored(Entry),
    /// In the addressed version.
    View(View),
}

impl Item {
    /// The namespace and the name.
    pub(crate) fn place(&self) -> Result<(Option<String>, String), Error> {
        match self {
            Self::Stored(entry) => Ok(storage::place(&Object::of(entry)?.value)),
            Self::View(view) => Ok(storage::place(view.value())),
        }
    }
}

/// One page of a collection.
pub(crate) struct Page {
    /// The objects.
    pub items: Vec<Item>,
    /// The revision all of them are of.
    pub revision: Revision,
    /// Where the next page begins.
    pub continue_token: Option<String>,
    /// How many are left, where that is known without looking at them.
    pub remaining: Option<usize>,
}

/// The revision of a token that reads on in whatever is there now.
const NOW: u64 = 0;

/// What a `continue` token says.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Token {
    /// Revision of the list, or [`NOW`].
    rv: u64,
    /// Last key given out, without the collection's prefix.
    after: String,
}

impl Token {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Self, Error> {
        let invalid = || Error::BadRequest("continue key is not valid: invalid token".to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| invalid())?;
        serde_json::from_slice(&bytes).map_err(|_| invalid())
    }
}

impl Server {
    /// A page of a collection.
    pub(crate) async fn list(&self, call: &Call) -> Result<Page, Error> {
        call.query.check_list()?;
        let selection = Selection::of(call)?;
        let prefix = storage::prefix(&self.store, &call.resource.definition, call.namespace.as_deref());
        let (entries, revision, start) = self.source(call, &prefix).await?;
        let limit = call.query.limit.unwrap_or(usize::MAX);
        // Nobody looks into what is answered whole and as it is stored.
        let as_stored = selection.all && call.accept.form == Form::Object;
        let mut items = Vec::with_capacity(limit.min(entries.len() - start));
        let mut next = None;
        for (at, entry) in entries.iter().enumerate().skip(start) {
            if items.len() == limit {
                next = Some(at);
                break;
            }
            if at % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            if as_stored {
                items.push(Item::Stored(entry.clone()));
                continue;
            }
            let object = Object::of(entry)?;
            if selection.matches(&object) {
                items.push(Item::View(call.resource.view(&object)));
            }
        }
        let mut page = Page { items, revision, continue_token: None, remaining: None };
        if let Some(next) = next {
            let after = entries[next - 1].key.strip_prefix(prefix.as_str()).unwrap_or_default().to_owned();
            page.continue_token = Some(Token { rv: revision.get(), after }.write());
            page.remaining = selection.all.then(|| entries.len() - next);
            self.snapshots.keep(&prefix, revision, entries);
        }
        Ok(page)
    }

    /// The entries to page through, their revision, and the index of the first one wanted.
    async fn source(&self, call: &Call, prefix: &str) -> Result<(Arc<Vec<Entry>>, Revision, usize), Error> {
        if !call.query.continue_token.is_empty() {
            return self.continued(call, prefix).await;
        }
        if let (Some(RevisionMatch::Exact), Some(exact)) = (call.query.revision_match, call.query.revision) {
            return self.exact(prefix, Revision::new(exact)).await;
        }
        let consistency = match call.query.revision {
            None => Consistency::Linearizable,
            Some(_) => Consistency::Any,
        };
        self.reach(call.query.revision.unwrap_or(0)).await?;
        let (entries, revision) = self.store.list(prefix, consistency).await?;
        Ok((Arc::new(entries), revision, 0))
    }

    /// Where the token of an earlier page leads.
    async fn continued(&self, call: &Call, prefix: &str) -> Result<(Arc<Vec<Entry>>, Revision, usize), Error> {
        let token = Token::read(&call.query.continue_token)?;
        if call.query.revision.is_some_and(|revision| revision != 0) {
            return Err(Error::BadRequest("specifying resource version is not allowed when using continue".to_owned()));
        }
        let (entries, revision) = if token.rv == NOW {
            let (entries, revision) = self.store.list(prefix, Consistency::Linearizable).await?;
            (Arc::new(entries), revision)
        } else {
            let revision = Revision::new(token.rv);
            self.reach(token.rv).await?;
            let fresh = || Token { rv: NOW, after: token.after.clone() }.write();
            let entries = self.past(prefix, revision).await?;
            (entries.ok_or_else(|| Error::ExpiredPage { fresh: fresh() })?, revision)
        };
        let after = format!("{prefix}{}", token.after);
        let start = entries.partition_point(|entry| *entry.key <= *after);
        Ok((entries, revision, start))
    }

    /// The collection as it was: kept for a paged list, or asked of etcd; `None` when that past is compacted.
    async fn past(&self, prefix: &str, revision: Revision) -> Result<Option<Arc<Vec<Entry>>>, Error> {
        if let Some(entries) = self.snapshots.find(prefix, revision) {
            return Ok(Some(entries));
        }
        Ok(self.store.list_at(prefix, revision).await?.map(Arc::new))
    }

    /// The collection as it was at a revision: still the same now, or as it was in the past.
    async fn exact(&self, prefix: &str, exact: Revision) -> Result<(Arc<Vec<Entry>>, Revision, usize), Error> {
        self.reach(exact.get()).await?;
        let (entries, _) = self.store.list(prefix, Consistency::Any).await?;
        // Nothing that is here is newer, and nothing went away since: then this is how it was.
        let untouched = entries.iter().all(|entry| entry.mod_revision <= exact) && self.quiet_since(prefix, exact);
        if untouched {
            return Ok((Arc::new(entries), exact, 0));
        }
        let past = self.past(prefix, exact).await?;
        let gone = || Error::Expired(format!("The resourceVersion for the provided list is too old: {exact}"));
        Ok((past.ok_or_else(gone)?, exact, 0))
    }

    /// Whether the history shows no change under `prefix` after `revision`.
    fn quiet_since(&self, prefix: &str, revision: Revision) -> bool {
        use futures::{FutureExt, StreamExt};
        let Ok(mut watch) = self.store.watch(prefix, revision) else { return false };
        !matches!(watch.next().now_or_never(), Some(Some(Ok(store::WatchItem::Event(_)) | Err(_))))
    }

    /// Waits until the cache has seen `revision`; a far future one is refused.
    pub(super) async fn reach(&self, revision: u64) -> Result<(), Error> {
        let wanted = Revision::new(revision);
        if self.store.revision() >= wanted {
            return Ok(());
        }
        // A linearizable question brings the cache up to now; what lies beyond does not exist.
        let (_, current) =
            self.store.list(&format!("{}~", self.store.keys().prefix()), Consistency::Linearizable).await?;
        if current.max(self.store.revision()) >= wanted {
            return Ok(());
        }
        Err(Error::TooLargeRevision { asked: revision, current: current.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_wire_and_forged_ones_are_refused() {
        let token = Token { rv: 7, after: "ns/a".into() };
        assert_eq!(Token::read(&token.write()).unwrap(), token);
        for forged in ["", "!!", "e30", "AAAA"] {
            assert_eq!(Token::read(forged).unwrap_err().code(), 400, "{forged}");
        }
    }
}

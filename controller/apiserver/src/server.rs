//! The server as its callers hold it: construction, mounting, and the life of its background tasks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use store::{Revision, Store, Term};
use tokio::task::AbortHandle;

use crate::access::{Access, Confinement, aggregate};
use crate::audit::{Audit, AuditOptions};
use crate::callers::{CallerKind, Strangers, Tokens};
use crate::connect::Connects;
use crate::error::Error;
use crate::fair::{Limits, Shares};
use crate::metrics::Metrics;
use crate::read::Snapshots;
use crate::registry::{CRD_GROUP, CRD_PLURAL, Live, Registry, Resource};
use crate::tasks;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespaces that exist from the start and cannot be deleted.
    pub namespaces: Vec<String>,
    /// The version shown by `/version`, in front of the build's own.
    pub git_version: String,
    /// How long Events are kept.
    pub event_ttl: Duration,
    /// How often the garbage collector looks at everything, besides following changes.
    pub garbage_scan: Duration,
    /// A watch that asks for no timeout ends after this time.
    pub watch_timeout: Duration,
    /// How often a watch is asked again whether its caller may still have it.
    pub watch_recheck: Duration,
    /// Longest wait of an HTTP/1.1 connection for a request's head to be complete, idle time before it included.
    pub head_timeout: Duration,
    /// A watch that asks for bookmarks gets one at least this often when something newer happened.
    pub bookmark_interval: Duration,
    /// What one client may have under way.
    pub limits: Limits,
    /// Where requests are written down.
    pub audit: Option<AuditOptions>,
    /// Whether this server does the chores itself (garbage, namespaces, old events) rather than as a leader.
    pub chores: bool,
    /// Signs ServiceAccount tokens. Without one, a key is made that lasts as long as the server.
    pub token_key: Option<Arc<pki::TokenKey>>,
    /// Kinds whose objects call as themselves, by tokens, besides ServiceAccounts.
    pub callers: Vec<CallerKind>,
    /// Groups of callers that reach only their own objects of certain resources.
    pub confinements: Vec<Confinement>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespaces: vec!["default".to_owned(), "photon-system".to_owned()],
            git_version: format!("v1.34.0+photoncloud-{}", env!("CARGO_PKG_VERSION")),
            event_ttl: Duration::from_secs(3600),
            garbage_scan: Duration::from_secs(300),
            watch_timeout: Duration::from_secs(1800),
            watch_recheck: Duration::from_secs(5),
            head_timeout: Duration::from_secs(90),
            bookmark_interval: Duration::from_secs(60),
            limits: Limits::default(),
            audit: None,
            chores: true,
            token_key: None,
            callers: Vec::new(),
            confinements: Vec::new(),
        }
    }
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) options: Options,
    pub(crate) registry: Arc<Registry>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) metrics: Metrics,
    pub(crate) connects: Arc<Connects>,
    pub(crate) shares: Shares,
    pub(crate) audit: Option<Arc<Audit>>,
    /// Whose name the audit log gives to what this server does without being asked; none where somebody asks.
    pub(crate) acting: Option<&'static str>,
    /// Who may do what.
    pub(crate) access: Arc<Access>,
    /// Tokens of ServiceAccounts.
    pub(crate) tokens: Arc<Tokens>,
    /// Those who bring tokens that prove nobody.
    pub(crate) strangers: Arc<Strangers>,
    /// Turns true when watches shall end because the process is about to.
    pub(crate) closing: tokio::sync::watch::Sender<bool>,
}

/// The API server; clones are handles to one server, whose tasks end with the last handle.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) server: Arc<Server>,
    _tasks: Arc<Tasks>,
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// What one server does for all, each part in its own name.
fn chores(server: &Arc<Server>) -> Vec<AbortHandle> {
    let acting = |name| Arc::new(Server { acting: Some(name), ..Server::clone(server) });
    vec![
        tokio::spawn(tasks::namespaces::run(acting("system:chore:namespaces"))).abort_handle(),
        tokio::spawn(tasks::instances::run(acting("system:chore:definitions"))).abort_handle(),
        tokio::spawn(tasks::garbage::run(acting("system:chore:garbage"))).abort_handle(),
        tokio::spawn(tasks::events::run(server.clone())).abort_handle(),
        tokio::spawn(tasks::upgrade::run(acting("system:chore:upgrade"))).abort_handle(),
        tokio::spawn(aggregate(acting("system:chore:roles"))).abort_handle(),
        tokio::spawn(tasks::accounts::run(acting("system:chore:accounts"))).abort_handle(),
    ]
}

impl ApiServer {
    /// Reads the stored CRDs, makes the first namespaces, roles and bindings, and starts the background tasks.
    pub async fn new(store: Store, options: Options) -> Result<Self, Error> {
        let registry = Arc::new(Registry::default());
        let mut live = Live::new(store.clone(), registry.clone());
        let revision = live.rebuild().await?;
        let audit = options.audit.clone().map(|wanted| {
            let path = wanted.path.display().to_string();
            Audit::open(wanted)
                .map_err(|error| Error::Internal(format!("the audit log {path} cannot be written: {error}")))
        });
        let metrics = Metrics::register()?;
        let access = Access::new(store.clone(), options.confinements.clone(), metrics.clone()).await?;
        let token_key = match options.token_key.clone() {
            Some(key) => key,
            None => Arc::new(pki::TokenKey::generate().map_err(|error| Error::Internal(crate::text::chain(&error)))?),
        };
        let server = Arc::new(Server {
            store,
            shares: Shares::new(options.limits),
            strangers: Arc::new(Strangers::new(options.limits.guesses)),
            audit: audit.transpose()?.map(Arc::new),
            acting: None,
            options,
            registry,
            snapshots: Arc::default(),
            metrics,
            connects: Arc::default(),
            access: Arc::new(access),
            tokens: Arc::new(Tokens::new(token_key)),
            closing: tokio::sync::watch::Sender::new(false),
        });
        server.ensure_namespaces().await?;
        server.ensure_default_policy().await?;
        let mut tasks = vec![tokio::spawn(live.run(revision)).abort_handle()];
        if server.options.chores {
            tasks.extend(chores(&server));
        }
        Ok(Self { server, _tasks: Arc::new(Tasks(tasks)) })
    }

    /// This server for as long as it leads: the same but for writes, which the store refuses once a later term has
    /// begun, and with the chores running. The server it was made from must outlive it.
    pub(crate) fn under(&self, term: Term) -> ApiServer {
        let server = Arc::new(Server { store: self.server.store.under(term), ..Server::clone(&self.server) });
        let tasks = chores(&server);
        Self { server, _tasks: Arc::new(Tasks(tasks)) }
    }

    /// Creates or updates CRDs and returns once they are served.
    pub async fn ensure_crds(&self, crds: &[Value]) -> Result<(), Error> {
        let resource = self.server.builtin(CRD_GROUP, CRD_PLURAL)?;
        let mut newest = Revision::ZERO;
        for crd in crds {
            newest = newest.max(self.server.ensure(&resource, crd).await?);
        }
        self.server.registry.reached(newest).await;
        Ok(())
    }

    /// Ends all watches, so that connections can be closed; requests are still answered.
    pub fn close_watches(&self) {
        self.server.closing.send_replace(true);
    }
}

impl Server {
    /// The kind of CustomResourceDefinitions, or of another built-in.
    pub(crate) fn builtin(&self, group: &str, plural: &str) -> Result<Resource, Error> {
        let catalog = self.registry.catalog();
        let definition = catalog
            .definition(group, plural)
            .ok_or_else(|| Error::Internal(format!("the built-in kind {plural:?} is missing")))?;
        Ok(Resource::stored(definition))
    }

    async fn ensure_namespaces(&self) -> Result<(), Error> {
        let resource = self.builtin("", "namespaces")?;
        for name in &self.options.namespaces {
            let namespace = serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}
            });
            self.ensure(&resource, &namespace).await?;
        }
        Ok(())
    }
}

//! The certificates that load balancers show on the networks here, with their keys.
//!
//! That a Secret has changed is told by the LoadBalancer's status, so no agent watches Secrets: it reads those that are shown here, one by
//! one and when they change. They are read beside the passes over a network, which take what there is; what comes wakes the network.
//!
//! ```text
//!  not read yet          ──► the proxy is left as it is, for a minute at most: one from before goes on with what it has
//!  read                  ──► shown, and until the next version has been read, too
//!  gone, refused, unfit  ──► not shown; all else of the network is
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::{LoadBalancer, Port, ServiceIP};
use host::proxy::Certificate;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use pki::Serving;
use tokio_util::task::AbortOnDropHandle;

use super::cells::AGAIN;
use super::peers::wake_one;
use control_loop::{Cache, Queue, sentence};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many answers that say nothing of the Secret, a minute or more, the network's other services wait for it no longer.
const TRIES: u32 = 12;

/// Namespace and name of a network.
type Name = (String, String);

/// The Secrets of all networks here.
pub struct Certificates {
    client: Client,
    local: Cache<Port>,
    queue: Queue<Port>,
    followed: Mutex<HashMap<Name, BTreeMap<String, Followed>>>,
}

struct Followed {
    version: String,
    found: Arc<Mutex<Found>>,
    _reading: AbortOnDropHandle<()>,
}

/// What is known of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    /// Whether it was read, or cannot be.
    is_known: bool,
    certificate: Option<Certificate>,
    trouble: Option<String>,
}

/// What a network's load balancers can show.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// By the Secret's name.
    pub certificates: BTreeMap<String, Certificate>,
    /// Whether one has not been read yet.
    pub is_awaited: bool,
    /// Why one cannot be read.
    pub trouble: Option<String>,
}

impl Certificates {
    /// None yet. `local` and `queue` are this host's ports, one of which is woken when a Secret has been read.
    pub fn new(client: Client, local: Cache<Port>, queue: Queue<Port>) -> Certificates {
        Certificates { client, local, queue, followed: Mutex::default() }
    }

    /// What there is of the network's Secrets, by name, in these versions; what is not there is read.
    pub fn follow(&self, namespace: &str, network: &str, versions: &BTreeMap<String, String>) -> Shown {
        let name = (namespace.to_owned(), network.to_owned());
        let mut followed = self.followed();
        if versions.is_empty() {
            followed.remove(&name);
            return Shown::default();
        }
        if !followed.contains_key(&name) {
            // A port that went without a word has left its network's Secrets behind.
            let is_here = |(namespace, network): &Name| {
                !self.local.pick(namespace, |port| port.spec.network == *network).is_empty()
            };
            followed.retain(|name, _| is_here(name));
        }
        let known = followed.entry(name.clone()).or_default();
        known.retain(|secret, _| versions.contains_key(secret));
        let mut shown = Shown::default();
        for (secret, version) in versions {
            let before = known.get(secret).map(|one| (one.version == *version, one.found.clone()));
            let found = match before {
                Some((true, found)) => found,
                other => {
                    let found = other.map(|(_, found)| found).unwrap_or_default();
                    let _reading = self.begin(&name, secret, found.clone());
                    known.insert(secret.clone(), Followed { version: version.clone(), found: found.clone(), _reading });
                    found
                }
            };
            let found = lock(&found).clone();
            shown.is_awaited |= !found.is_known;
            shown.certificates.extend(found.certificate.map(|one| (secret.clone(), one)));
            shown.trouble = shown.trouble.or(found.trouble);
        }
        shown
    }

    /// No port of the network is here any more.
    pub fn forget(&self, namespace: &str, network: &str) {
        self.followed().remove(&(namespace.to_owned(), network.to_owned()));
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<Name, BTreeMap<String, Followed>>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the Secret until there is an answer that only a newer version can change.
    fn begin(&self, (namespace, network): &Name, secret: &str, found: Arc<Mutex<Found>>) -> AbortOnDropHandle<()> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let (local, queue) = (self.local.clone(), self.queue.clone());
        let (namespace, network, secret) = (namespace.clone(), network.clone(), secret.to_owned());
        AbortOnDropHandle::new(tokio::spawn(async move {
            for tries in 1_u32.. {
                let answer = tokio::time::timeout(PATIENCE, api.get(&secret)).await;
                let before = lock(&found).clone();
                let (mut now, is_last) = judge(&secret, answer.ok(), before.clone());
                now.is_known |= tries >= TRIES;
                if now != before {
                    *lock(&found) = now;
                    wake_one(&local, &queue, &namespace, &network);
                }
                if is_last {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }))
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of the Secret after an answer, or none, and whether it need not be asked for again.
fn judge(name: &str, answer: Option<Result<Secret, kube::Error>>, before: Found) -> (Found, bool) {
    let trouble = |why: String| Some(format!("failed to read Secret {name}: {why}"));
    let is_refusal =
        |error: &kube::Error| matches!(error, kube::Error::Api(status) if [403, 404].contains(&status.code));
    match answer {
        Some(Ok(secret)) => match read(&secret) {
            Ok(certificate) => (Found { is_known: true, certificate: Some(certificate), trouble: None }, true),
            // That is told by the LoadBalancer.
            Err(_) => (Found { is_known: true, certificate: None, trouble: None }, true),
        },
        Some(Err(error)) if is_refusal(&error) => {
            (Found { is_known: true, certificate: None, trouble: trouble(sentence(&error)) }, false)
        }
        Some(Err(error)) => (Found { trouble: trouble(sentence(&error)), ..before }, false),
        None => (Found { trouble: trouble("the API does not answer".to_owned()), ..before }, false),
    }
}

fn read(secret: &Secret) -> Result<Certificate, pki::Unfit> {
    let entries = secret.data.as_ref();
    let entry = |name: &str| entries.and_then(|all| all.get(name)).map(|bytes| bytes.0.as_slice());
    Serving::of(secret.type_.as_deref(), entry).map(|serving| Certificate::new(serving.pem()))
}

/// The Secrets that load balancers of these ServiceIPs show, and their versions: of what two say the later.
pub fn versions(balancers: &[Arc<LoadBalancer>], services: &[Arc<ServiceIP>]) -> BTreeMap<String, String> {
    let services: BTreeSet<String> = services.iter().map(|one| one.name_any()).collect();
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    let here =
        |one: &&Arc<LoadBalancer>| one.metadata.deletion_timestamp.is_none() && services.contains(&one.spec.service_ip);
    for balancer in balancers.iter().filter(here) {
        for (secret, version) in balancer.shown() {
            let known = versions.entry(secret.to_owned()).or_default();
            let number = |text: &str| text.parse::<u64>().unwrap_or_default();
            if known.is_empty() || number(version) > number(known) {
                version.clone_into(known);
            }
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api_error(code: u16) -> kube::Error {
        let status = json!({"status": "Failure", "message": "no", "reason": "No", "code": code});
        kube::Error::Api(serde_json::from_value(status).unwrap())
    }

    fn found(certificate: Option<&str>) -> Found {
        Found { is_known: true, certificate: certificate.map(Certificate::new), trouble: None }
    }

    #[test]
    fn what_was_read_is_shown_until_the_secret_is_said_to_be_gone() {
        let after = |code| {
            let (found, is_last) = judge("web", Some(Err(api_error(code))), found(Some("x")));
            assert!(
                !is_last && found.trouble.as_ref().is_some_and(|trouble| trouble.contains("Secret web")),
                "{found:?}"
            );
            (found.is_known, found.certificate.is_some())
        };
        assert_eq!((after(500), after(429)), ((true, true), (true, true)));
        assert_eq!((after(404), after(403)), ((true, false), (true, false)));
        let (silent, _) = judge("web", None, Found::default());
        assert!(!silent.is_known && silent.trouble.is_some(), "what was never read is awaited");
        let unfit: Secret = serde_json::from_value(json!({"metadata": {"name": "web"}, "type": "Opaque"})).unwrap();
        assert_eq!(judge("web", Some(Ok(unfit)), found(Some("x"))), (found(None), true));
    }

    #[test]
    fn only_what_is_named_and_told_good_is_read_and_of_two_versions_the_later() {
        let service = |name: &str| {
            let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "ServiceIP",
                "metadata": {"name": name, "namespace": "t"}, "spec": {"network": "n"}});
            Arc::new(serde_json::from_value::<ServiceIP>(object).unwrap())
        };
        let balancer = |service: &str, told: &[(&str, &str)]| {
            let told: Vec<_> = told.iter().map(|(secret, version)| {
                json!({"secret": secret, "resourceVersion": version, "notAfter": "2026-01-01T00:00:00Z"})
            }).collect();
            let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "LoadBalancer", "metadata": {"name": "lb",
                "namespace": "t"}, "status": {"certificates": told}, "spec": {"serviceIP": service, "backends": [],
                "listeners": [{"protocol": "HTTPS", "port": 443, "tls": {"secrets": ["a", "b"]}}]}});
            Arc::new(serde_json::from_value::<LoadBalancer>(object).unwrap())
        };
        let all = [
            balancer("vip", &[("a", "9"), ("other", "1")]),
            balancer("vip", &[("a", "10")]),
            balancer("elsewhere", &[("b", "1")]),
        ];
        assert_eq!(versions(&all, &[service("vip")]), BTreeMap::from([("a".to_owned(), "10".to_owned())]));
    }
}

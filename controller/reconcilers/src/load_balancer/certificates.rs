//! What is told of the certificates that a LoadBalancer shows. Pure.

use crds::LoadBalancer;
use crds::load_balancer::CertificateStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use pki::{Serving, Unfit, Validity};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a certificate's end is waited for at once.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What became of a Secret that is named.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is none.
    Missing,
    /// It cannot be shown.
    Unfit(Unfit),
    /// It is shown.
    Fit {
        /// Its version.
        version: String,
        /// What it holds.
        serving: Serving,
    },
}

impl Found {
    /// What the Secret holds.
    pub fn of(secret: Option<&Secret>) -> Found {
        let Some(secret) = secret else { return Found::Missing };
        let entries = secret.data.as_ref();
        let entry = |name: &str| entries.and_then(|all| all.get(name)).map(|bytes| bytes.0.as_slice());
        match Serving::of(secret.type_.as_deref(), entry) {
            Ok(serving) => {
                Found::Fit { version: secret.metadata.resource_version.clone().unwrap_or_default(), serving }
            }
            Err(unfit) => Found::Unfit(unfit),
        }
    }

    fn serving(&self) -> Option<&Serving> {
        match self {
            Found::Fit { serving, .. } => Some(serving),
            Found::Missing | Found::Unfit(_) => None,
        }
    }
}

/// The Secrets that a LoadBalancer names, at some time.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// By name.
    pub secrets: &'a BTreeMap<String, Found>,
    /// Seconds since 1970.
    pub now: i64,
}

impl Shown<'_> {
    /// The certificates that are shown.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let one = |(secret, found): (&String, &Found)| match found {
            Found::Fit { version, serving } => Some(CertificateStatus {
                secret: secret.clone(),
                resource_version: version.clone(),
                names: serving.names().to_vec(),
                not_after: moment(serving.not_after()),
            }),
            Found::Missing | Found::Unfit(_) => None,
        };
        self.secrets.iter().filter_map(one).collect()
    }

    /// What is amiss: first what is not shown, then what is shown and no client accepts.
    pub fn complaint(&self, balancer: &LoadBalancer) -> Option<(&'static str, String)> {
        let listeners = balancer.spec.listeners.iter().enumerate();
        let named = listeners.flat_map(|(listener, one)| {
            one.secrets()
                .enumerate()
                .map(move |(at, name)| (format!("spec.listeners[{listener}].tls.secrets[{at}]"), name))
        });
        let all: Vec<(String, &str, &Found)> =
            named.map(|(field, name)| (field, name, self.secrets.get(name).unwrap_or(&Found::Missing))).collect();
        let not_shown = all.iter().find_map(|(field, name, found)| match found {
            Found::Missing => {
                let remedy = "make it, as by `kubectl create secret tls`";
                Some(("SecretNotFound", format!("{field}: Secret {name} does not exist; {remedy}")))
            }
            Found::Unfit(unfit) => Some((unfit.category(), format!("{field}: Secret {name} is not served: {unfit}"))),
            Found::Fit { .. } => None,
        });
        not_shown.or_else(|| {
            all.iter().find_map(|(field, name, found)| {
                let serving = found.serving()?;
                let (reason, what, at) = match serving.validity_at(self.now) {
                    Validity::Valid => return None,
                    Validity::NotYet => ("CertificateNotYetValid", "is not valid before", serving.not_before()),
                    Validity::Over => ("CertificateExpired", "has not been valid since", serving.not_after()),
                };
                let at = moment(at);
                let told = format!(
                    "{field}: the certificate in Secret {name} {what} {at}: it is served, and clients refuse it; put a valid one there"
                );
                Some((reason, told))
            })
        })
    }

    /// When to look again, though nothing is heard of.
    pub fn changes_in(&self) -> Option<Duration> {
        let all = self.secrets.values().filter_map(Found::serving);
        all.filter_map(|serving| serving.changes_in(self.now)).min().map(|next| Duration::from_secs(next).min(LONGEST))
    }
}

/// A time that cannot be written down is as good as the last one that can.
fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use serde_json::json;

    /// One for a.example and the first week of 2026, with its key.
    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 1, 8));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn secret(type_: &str, data: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let metadata = json!({"name": "a", "namespace": "t", "resourceVersion": "7"});
        let mut secret: Secret = serde_json::from_value(json!({"metadata": metadata, "type": type_})).unwrap();
        let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        secret.data = Some(data.iter().map(|(name, text)| ((*name).to_owned(), bytes(text))).collect());
        secret
    }

    fn good() -> Found {
        let (certificate, key) = pair();
        Found::of(Some(&secret("kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)])))
    }

    fn balancer() -> LoadBalancer {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": "lb", "namespace": "t"}, "spec": {"serviceIP": "vip", "backends": [], "listeners": [
                {"protocol": "HTTP", "port": 80}, {"protocol": "HTTPS", "port": 443, "tls": {"secrets": ["a", "b"]}}]}}))
        .unwrap()
    }

    fn told(a: Found, b: Found, now: &str) -> (Vec<String>, Option<(&'static str, String)>) {
        let secrets = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let shown = Shown { secrets: &secrets, now: now.parse::<Timestamp>().unwrap().as_second() };
        (shown.status().into_iter().map(|one| one.secret).collect(), shown.complaint(&balancer()))
    }

    const IN_TIME: &str = "2026-01-03T00:00:00Z";

    #[test]
    fn what_is_shown_is_told_and_the_rest_is_named_with_its_field_and_a_remedy() {
        assert_eq!(told(good(), good(), IN_TIME), (vec!["a".into(), "b".into()], None));
        let (shown, complaint) = told(good(), Found::of(None), IN_TIME);
        let (reason, message) = complaint.unwrap();
        assert_eq!((shown, reason), (vec!["a".to_owned()], "SecretNotFound"));
        assert!(message.starts_with("spec.listeners[1].tls.secrets[1]: Secret b does not exist; make it"), "{message}");
        let opaque = Found::of(Some(&secret("Opaque", &[("tls.crt", &pair().0)])));
        let (shown, complaint) = told(opaque, good(), IN_TIME);
        let (reason, message) = complaint.unwrap();
        assert_eq!((shown, reason), (vec!["b".to_owned()], "SecretWrongType"));
        assert!(message.starts_with("spec.listeners[1].tls.secrets[0]: Secret a is not served: "), "{message}");
        let half = Found::of(Some(&secret("kubernetes.io/tls", &[("tls.crt", &pair().0)])));
        assert_eq!(told(half, good(), IN_TIME).1.unwrap().0, "SecretIncomplete");
    }

    #[test]
    fn what_clients_refuse_is_shown_and_told_and_looked_at_again_when_that_changes() {
        for (now, reason) in [
            ("2025-12-31T23:59:59Z", Some("CertificateNotYetValid")),
            (IN_TIME, None),
            ("2026-01-08T00:00:01Z", Some("CertificateExpired")),
        ] {
            let (shown, complaint) = told(good(), good(), now);
            assert_eq!((shown.len(), complaint.as_ref().map(|one| one.0)), (2, reason), "{now}: {complaint:?}");
        }
        // What is not served at all is told first.
        assert_eq!(told(good(), Found::Missing, "2026-02-01T00:00:00Z").1.unwrap().0, "SecretNotFound");
        let secrets = BTreeMap::from([("a".to_owned(), good())]);
        let next = |now: &str| {
            let now = now.parse::<Timestamp>().unwrap().as_second();
            Shown { secrets: &secrets, now }.changes_in().map(|wait| wait.as_secs())
        };
        assert_eq!(next("2025-12-31T23:59:50Z"), Some(10));
        assert_eq!(next(IN_TIME), Some(24 * 3600), "a day at most");
        assert_eq!(next("2026-01-07T23:59:51Z"), Some(10));
        assert_eq!(next("2026-02-01T00:00:00Z"), None);
    }
}

//! Certificates as HAProxy takes them.

use host::proxy::Certificate;

use super::{House, proxy};
use crate::firewall::lab::reasons;

/// Of each sort of key and form that `pki` lets pass: HAProxy's refusal of one would stop all others.
#[tokio::test]
async fn what_is_judged_fit_to_be_served_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let done = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(dir.path()).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    for (name, key) in [
        ("rsa", "genrsa -out rsa.key 2048"),
        ("old", "genrsa -traditional -out old.key 2048"),
        ("p256", "ecparam -name prime256v1 -genkey -out p256.key"),
        ("p384", "genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-384 -out p384.key"),
        ("ed", "genpkey -algorithm ed25519 -out ed.key"),
    ] {
        openssl(key);
        openssl(&format!("req -x509 -key {name}.key -subj /CN={name} -out {name}.crt -days 9"));
    }
    // Of version 1, by an authority; its own by SHA-1; and of nobody.
    openssl("req -new -key rsa.key -subj /CN=one -out one.csr");
    openssl("x509 -req -in one.csr -CA p384.crt -CAkey p384.key -CAcreateserial -out one.crt");
    openssl("req -x509 -key rsa.key -sha1 -subj /CN=sha1 -out sha1.crt -days 9");
    openssl("req -x509 -key rsa.key -subj / -out nobody.crt -days 9");
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let fit = |(certificate, key): (&str, &str)| {
        let (certificate, key) = (read(&format!("{certificate}.crt")), read(&format!("{key}.key")));
        let entry = |name: &str| Some(if name == "tls.crt" { &certificate[..] } else { &key });
        Certificate::new(pki::Serving::of(Some(pki::SECRET_TYPE), entry).unwrap().pem())
    };
    let own = ["rsa", "old", "p256", "p384", "ed"].map(|name| (name, name));
    let lent = ["one", "sha1", "nobody", "rsa"].map(|name| (name, "rsa"));
    let all: Vec<Certificate> = own.into_iter().chain(lent).map(fit).collect();

    let house = House::new(10_074).await;
    let mut wanted = proxy(Vec::new(), &[(12, 1)]);
    wanted.listeners[0].tls = Some(all.clone());
    assert_eq!(reasons(&house.ensure(0, &wanted).await), ["ProxyStarted"]);
    let kept = house.place(0).state.join("tls");
    let files = || std::fs::read_dir(&kept).unwrap().count();
    assert_eq!(files(), all.len() - 1, "one is named twice");
    wanted.listeners[0].tls = Some(all[..1].to_vec());
    assert_eq!(reasons(&house.ensure(0, &wanted).await), ["ProxyChanged"]);
    assert_eq!(files(), 1, "what is no longer shown is gone");
    assert_eq!(reasons(&house.ensure(0, &wanted).await), Vec::<&str>::new());
}

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

use super::*;

fn pair(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn read(type_: Option<&str>, entries: &[(&str, &str)]) -> Result<Serving, Unfit> {
    let entries: BTreeMap<&str, &str> = entries.iter().copied().collect();
    Serving::of(type_, |name| entries.get(name).map(|text| text.as_bytes()))
}

fn tls(certificate: &str, key: &str) -> Result<Serving, Unfit> {
    read(Some(SECRET_TYPE), &[("tls.crt", certificate), ("tls.key", key)])
}

#[test]
fn what_a_server_can_show_is_read_with_its_names_and_without_anything_else() {
    let (certificate, key) = pair(&PKCS_ED25519, &["a.example", "*.b.example", "10.0.0.1"]);
    let (authority, foreign) = pair(&PKCS_ECDSA_P384_SHA384, &["authority"]);
    let chain = format!("a comment\n{certificate}\n{authority}{foreign}");
    let serving = tls(&chain, &key).unwrap();
    assert_eq!(serving.names(), ["a.example", "*.b.example", "10.0.0.1"]);
    let blocks: Vec<&str> = serving.pem().lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    assert_eq!(blocks, ["-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"]);
    assert!(!serving.pem().contains("comment"));
    assert_eq!(tls(serving.pem(), serving.pem()).unwrap(), serving, "it is one form");
    let shown = format!("{serving:?}");
    assert!(shown.contains("a.example") && !shown.contains("BEGIN"), "{shown}");
}

#[test]
fn what_no_server_can_show_is_told_by_what_is_wrong_with_it() {
    let (certificate, key) = pair(&PKCS_ECDSA_P384_SHA384, &["a.example"]);
    let (other, _) = pair(&PKCS_ECDSA_P384_SHA384, &["a.example"]);
    assert_eq!(read(Some("Opaque"), &[("tls.crt", &certificate), ("tls.key", &key)]), Err(Unfit::WrongType));
    assert_eq!(read(None, &[]), Err(Unfit::WrongType));
    assert_eq!(read(Some(SECRET_TYPE), &[("tls.key", &key)]), Err(Unfit::Incomplete("tls.crt")));
    assert_eq!(tls(&certificate, ""), Err(Unfit::Incomplete("tls.key")));
    assert_eq!(tls("nonsense", &key), Err(Unfit::CertificateMalformed));
    assert_eq!(tls(&key, &key), Err(Unfit::CertificateMalformed));
    assert_eq!(tls(&block("CERTIFICATE", b"nonsense"), &key), Err(Unfit::CertificateMalformed));
    assert_eq!(tls(&certificate[..certificate.len() / 2], &key), Err(Unfit::CertificateMalformed));
    assert_eq!(tls(&certificate, "nonsense"), Err(Unfit::KeyMalformed));
    assert_eq!(tls(&certificate, &block("ENCRYPTED PRIVATE KEY", b"x")), Err(Unfit::KeyEncrypted));
    assert_eq!(tls(&certificate, &block("PRIVATE KEY", b"x")), Err(Unfit::KeyUnsupported));
    assert_eq!(tls(&format!("{other}{certificate}"), &key), Err(Unfit::KeyMismatch), "the first has to be its own");
}

/// Made by OpenSSL: the authority signs with SHA-1, and the key has 1024 bits.
#[test]
fn what_openssl_refuses_is_refused_before() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let done = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(dir.path()).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -sha1 -days 9");
    openssl("req -newkey rsa:2048 -nodes -keyout a.key -out a.csr -subj /CN=a.example");
    openssl("x509 -req -in a.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out weak.crt -sha1");
    openssl("x509 -req -in a.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out good.crt -sha256");
    openssl("req -x509 -newkey rsa:1024 -nodes -keyout short.key -out short.crt -subj /CN=short");
    openssl("rsa -in a.key -traditional -out old.key");
    openssl("ecparam -name prime256v1 -genkey -out ec.key");
    openssl("req -x509 -key ec.key -out ec.crt -subj /CN=ec -days 9");
    openssl("ecparam -name secp521r1 -genkey -noout -out far.key");
    openssl("req -x509 -key far.key -out far.crt -subj /CN=far -days 9");
    openssl("pkcs8 -topk8 -in a.key -out locked.key -passout pass:x");
    openssl("rsa -in a.key -traditional -aes128 -passout pass:x -out sealed.key");

    let judged = |certificate: &str, key: &str| tls(&text(certificate), &text(key));
    assert_eq!(judged("weak.crt", "a.key"), Err(Unfit::CertificateWeak));
    assert_eq!(tls(&(text("good.crt") + &text("weak.crt")), &text("a.key")), Err(Unfit::CertificateWeak));
    let short = judged("short.crt", "short.key");
    assert!(matches!(short, Err(Unfit::KeyUnsupported | Unfit::CertificateWeak)), "{short:?}");
    assert_eq!(judged("far.crt", "far.key"), Err(Unfit::KeyUnsupported));
    assert_eq!(judged("good.crt", "locked.key"), Err(Unfit::KeyEncrypted));
    assert_eq!(judged("good.crt", "sealed.key"), Err(Unfit::KeyEncrypted));
    // An authority's own signature is not what it is trusted for, and an old form is as good.
    let good = tls(&(text("good.crt") + &text("ca.crt")), &text("old.key")).unwrap();
    assert_eq!(good.names(), ["a.example"], "without others, whom it calls itself");
    assert!(judged("ec.crt", "ec.key").unwrap().pem().contains("BEGIN EC PRIVATE KEY"));
}

#[test]
fn its_time_is_told_to_the_second() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 2), rcgen::date_time_ymd(2026, 1, 3));
    let serving = tls(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem()).unwrap();
    let (from, to) = (serving.not_before(), serving.not_after());
    assert_eq!(to - from, 24 * 3600);
    let at = |now| (serving.validity_at(now), serving.changes_in(now));
    assert_eq!(at(from - 1), (Validity::NotYet, Some(1)));
    assert_eq!(at(from), (Validity::Valid, Some(24 * 3600 + 1)));
    assert_eq!(at(to), (Validity::Valid, Some(1)));
    assert_eq!(at(to + 1), (Validity::Over, None));
}

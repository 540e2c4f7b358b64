//! Anything may be brought as a token: whatever the bytes, nobody is let in by them.

use std::time::Instant;

use anyhow::{Context, Result};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Request};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fuzz::{LONGEST, nearly, runner};
use crate::lab::{Lab, WIDGETS, read};

/// Three parts, of which each is what it was, a document that is nearly right, or anything.
fn parts(real: [Vec<u8>; 3]) -> impl Strategy<Value = Vec<u8>> {
    let document = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(json!({}));
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes).into_bytes();
    let part = move |bytes: Vec<u8>| {
        prop_oneof![
            2 => Just(encoded(&bytes)),
            2 => nearly(document(&bytes)).prop_map(move |value| encoded(value.to_string().as_bytes())),
            1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(move |bytes| encoded(&bytes)),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
        ]
    };
    let [head, claims, signature] = real.map(part);
    let dot = select(vec![&b"."[..], b"", b".."]);
    (head, dot.clone(), claims, dot, signature)
        .prop_map(|(head, first, claims, second, signature)| [&head, first, &claims, second, &signature].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_are_taken_for_a_token() -> Result<()> {
    // Here every guess shall be looked at.
    let limits = apiserver::Limits { guesses: u32::MAX, ..apiserver::Limits::default() };
    let lab = Lab::with(apiserver::Options { limits, ..apiserver::Options::default() }).await?;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    lab.until(&format!("{accounts}/default"), |_| true).await?;
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let given = lab.call("POST", &format!("{accounts}/default/token"), &asked).await?.expect(201)?;
    let token = given["status"]["token"].as_str().context("no token")?.to_owned();
    let real: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part)).collect::<Result<_, _>>()?;
    let real: [Vec<u8>; 3] = real.try_into().ok().context("a token has three parts")?;
    let anything = proptest::collection::vec(any::<u8>(), 0..300);
    let strategy = prop_oneof![4 => parts(real), 1 => anything];
    let handle = tokio::runtime::Handle::current();
    let ran = tokio::task::block_in_place(|| {
        runner(1000).run(&strategy, |bytes| {
            let header = [b"Bearer ", bytes.as_slice()].concat();
            // What is no HTTP never reaches the server, and the token itself may come out, too.
            let Ok(header) = HeaderValue::from_bytes(&header) else { return Ok(()) };
            if bytes.trim_ascii() == token.as_bytes() {
                return Ok(());
            }
            let failed = |error: anyhow::Error| TestCaseError::fail(error.to_string());
            let request = Request::get(WIDGETS).header("authorization", header).body(Body::empty());
            let request = request.map_err(|error| failed(error.into()))?;
            let began = Instant::now();
            let Ok(response) = handle.block_on(lab.api.router().oneshot(request));
            let answer = handle.block_on(read(response)).map_err(failed)?;
            prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
            prop_assert_eq!(answer.code, 401);
            prop_assert_eq!(&answer.body["kind"], "Status");
            Ok(())
        })
    });
    ran.map_err(|error| anyhow::anyhow!("{error}"))?;
    let request = Request::get("/api").header("authorization", format!("Bearer {token}")).body(Body::empty())?;
    let Ok(response) = lab.api.router().oneshot(request).await;
    read(response).await?.expect(200)?;
    lab.end().await
}

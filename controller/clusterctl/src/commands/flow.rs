//! `run` and `rerun`: a whole flow with live progress, its verdict and its numbers.
//!
//! `run fresh-X` is clean, rebuild, run; `run X` runs the test again on the live cluster; `run FILE` applies a manifest
//! of one's own. Built images are kept in either case: equal recipes give equal images.

use super::apply::{self, How};
use super::catalog::Catalog;
use super::delete::{self, Doomed};
use super::get::said;
use super::manifest::{self, Document};
use crate::print::progress;
use anyhow::{Context, Result, bail};
use crds::TestRun;
use kube::api::{DeleteParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The flows that the binary carries.
const FLOWS: [(&str, &str); 1] = [("fresh-smoke", include_str!("../../../../manifests/fresh-smoke.yaml"))];

/// Label that says which TestRun this is a repetition of.
const RERUN_OF: &str = "photoncloud.dev/rerun-of";

/// What to run.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// `fresh-smoke` (from nothing), `smoke` (on the live cluster), or a manifest file with a TestRun.
    pub flow: String,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<std::path::PathBuf>,
}

/// What to run again.
#[derive(clap::Args, Debug)]
pub struct RerunArgs {
    /// The TestRun: `NAME` or `testrun/NAME`.
    pub testrun: String,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<std::path::PathBuf>,
}

/// Runs a flow; the exit code is the verdict.
pub async fn run(client: &Client, namespace: &str, args: &RunArgs) -> Result<ExitCode> {
    if let Some((name, text)) = FLOWS.iter().find(|(name, _)| *name == args.flow) {
        let documents = manifest::parse(name, text)?;
        clean(client, namespace, &documents).await?;
        return apply_and_follow(client, namespace, &documents, args.junit.as_deref()).await;
    }
    if let Some((name, _)) = FLOWS.iter().find(|(name, _)| name.strip_prefix("fresh-") == Some(args.flow.as_str())) {
        return again(client, namespace, name, args.junit.as_deref()).await;
    }
    if !Path::new(&args.flow).exists() {
        let known: Vec<&str> = FLOWS.iter().map(|(name, _)| *name).collect();
        bail!("no flow or file is called {:?}; there are: {}", args.flow, known.join(", "));
    }
    let sources = manifest::Sources { filename: vec![args.flow.clone().into()], recursive: false };
    apply_and_follow(client, namespace, &sources.read()?, args.junit.as_deref()).await
}

/// Runs a TestRun again, as a new object.
pub async fn rerun(client: &Client, namespace: &str, args: &RerunArgs) -> Result<ExitCode> {
    let name = args.testrun.rsplit('/').next().unwrap_or_default();
    again(client, namespace, name, args.junit.as_deref()).await
}

async fn again(client: &Client, namespace: &str, name: &str, junit: Option<&Path>) -> Result<ExitCode> {
    let runs: Api<TestRun> = Api::namespaced(client.clone(), namespace);
    let first = match runs.get_opt(name).await.map_err(said)? {
        Some(run) => run,
        None => bail!("there is no TestRun {name} to run again; apply it first, or run the flow from nothing"),
    };
    let new = TestRun {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            labels: Some(BTreeMap::from([(RERUN_OF.to_owned(), name.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: first.spec,
        status: None,
    };
    let made = runs.create(&PostParams::default(), &new).await.map_err(said)?;
    println!("testrun.photoncloud.dev/{} created", made.name_any());
    follow(client, namespace, &made.name_any(), junit).await
}

/// Deletes the flow's objects, the images apart, and waits until they are gone.
async fn clean(client: &Client, namespace: &str, documents: &[Document]) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let mut doomed = Vec::new();
    for document in documents.iter().rev() {
        let (kind, version, name) = document.identity()?;
        if kind == "Image" {
            continue;
        }
        let resource = catalog.of_manifest(version, kind)?.clone();
        let object = Doomed { resource, namespace: document.namespace(namespace).to_owned(), name: name.to_owned() };
        match delete::delete(client, &object).await {
            Ok(()) => doomed.push(object),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(said(error)),
        }
    }
    let reruns: Api<TestRun> = Api::namespaced(client.clone(), namespace);
    let of = kube::api::ListParams::default().labels(RERUN_OF);
    reruns.delete_collection(&DeleteParams::default(), &of).await.map_err(said)?;
    delete::gone(client, &doomed, Duration::from_secs(300)).await
}

async fn apply_and_follow(
    client: &Client,
    namespace: &str,
    documents: &[Document],
    junit: Option<&Path>,
) -> Result<ExitCode> {
    let run = documents.iter().find(|d| d.object["kind"] == "TestRun");
    let Some(run) = run else { bail!("the manifest holds no TestRun; `clusterctl apply` it instead") };
    let name = run.identity()?.2.to_owned();
    let refused = apply::apply_all(client, namespace, documents, &How::default()).await?;
    if refused > 0 {
        bail!("{refused} objects were refused; nothing was run");
    }
    follow(client, run.namespace(namespace), &name, junit).await
}

/// Shows progress until the run has ended, then verdict and numbers.
async fn follow(client: &Client, namespace: &str, name: &str, junit: Option<&Path>) -> Result<ExitCode> {
    let run = tokio::select! {
        run = progress::follow(client, namespace, name) => run?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\nthe run goes on; see it with: clusterctl wait testrun/{name} --for=condition=Complete --timeout=1h");
            return Ok(ExitCode::from(130));
        }
    };
    print!("{}", testrun::report::text(&run));
    if let Some(path) = junit {
        std::fs::write(path, testrun::junit::render(&run))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(ExitCode::from(u8::try_from(testrun::exit_code(&run)).unwrap_or(1)))
}

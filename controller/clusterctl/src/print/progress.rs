//! Live progress of a run: images, nodes and steps, redrawn on a terminal, a line a change elsewhere.

use anyhow::{Result, bail};
use crds::testrun::{RunPhase, StepPhase};
use crds::{Image, Node, TestRun, condition};
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// What may have changed.
enum Change {
    Image(Box<Image>),
    Node(Box<Node>),
    Run(Box<TestRun>),
}

/// Shows progress until the run has ended, and returns it.
pub async fn follow(client: &Client, namespace: &str, name: &str) -> Result<TestRun> {
    let mut changes: SelectAll<BoxStream<'static, Result<Change, watcher::Error>>> = SelectAll::new();
    changes.push(watch::<Image>(client, namespace, Change::Image));
    changes.push(watch::<Node>(client, namespace, Change::Node));
    changes.push(watch::<TestRun>(client, namespace, Change::Run));
    let mut board = Board::new();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Image(image)) => board.show(&format!("image/{}", image.name_any()), image_line(&image)),
            Ok(Change::Node(node)) => board.show(&format!("node/{}", node.name_any()), node_line(&node)),
            Ok(Change::Run(run)) if run.name_any() == name => {
                show_steps(&mut board, &run);
                if run.status.as_ref().is_some_and(|status| status.phase.is_final()) {
                    board.clear();
                    return Ok(*run);
                }
            }
            Ok(Change::Run(_)) => {}
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch interrupted"),
        }
    }
    bail!("the server ended the watch; the run goes on: clusterctl get testrun {name}")
}

fn watch<K>(
    client: &Client,
    namespace: &str,
    wrap: fn(Box<K>) -> Change,
) -> BoxStream<'static, Result<Change, watcher::Error>>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + serde::de::DeserializeOwned
        + 'static,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .map_ok(move |object| wrap(Box::new(object)))
        .boxed()
}

/// One line's state.
struct Line {
    text: String,
    done: bool,
}

fn image_line(image: &Image) -> Line {
    let status = image.status.clone().unwrap_or_default();
    let message = condition::find(&status.conditions, condition::READY).map(|c| c.message.clone()).unwrap_or_default();
    let detail = match status.phase {
        crds::image::ImagePhase::Building => status.progress.unwrap_or_default(),
        crds::image::ImagePhase::Failed => message,
        crds::image::ImagePhase::Ready | crds::image::ImagePhase::Pending => String::new(),
    };
    Line {
        text: format!("{:?} {detail}", status.phase).trim().to_owned(),
        done: status.phase == crds::image::ImagePhase::Ready,
    }
}

fn node_line(node: &Node) -> Line {
    let status = node.status.clone().unwrap_or_default();
    let ready = condition::find(&status.conditions, condition::READY);
    let detail = match (status.phase, status.boot_seconds) {
        (crds::node::NodePhase::Ready, Some(seconds)) => format!("{} in {seconds:.1} s", status.ip.unwrap_or_default()),
        (crds::node::NodePhase::Ready, None) => status.ip.unwrap_or_default(),
        _ => ready.map(|c| c.message.clone()).unwrap_or_default(),
    };
    Line {
        text: format!("{:?} {detail}", status.phase).trim().to_owned(),
        done: status.phase == crds::node::NodePhase::Ready,
    }
}

fn show_steps(board: &mut Board, run: &TestRun) {
    let Some(status) = &run.status else { return };
    if status.phase == RunPhase::Pending {
        return;
    }
    for step in status.steps.iter().filter(|step| step.phase != StepPhase::Pending) {
        let took = step.duration_seconds.map(|seconds| format!(" {seconds:.1} s")).unwrap_or_default();
        let attempts = if step.attempts > 1 { format!(" attempt {}", step.attempts) } else { String::new() };
        let message =
            if matches!(step.phase, StepPhase::Passed | StepPhase::Skipped) { "" } else { step.message.as_str() };
        let text = format!("{:?}{took}{attempts} {message}", step.phase).trim().to_owned();
        board.show(&format!("step/{}", step.name), Line { text, done: !matches!(step.phase, StepPhase::Running) });
    }
}

/// The lines shown: a moving picture on a terminal, a log elsewhere.
struct Board {
    started: Instant,
    last: HashMap<String, String>,
    drawn: Option<(MultiProgress, HashMap<String, ProgressBar>)>,
}

impl Board {
    fn new() -> Self {
        let drawn = std::io::stderr().is_terminal().then(|| (MultiProgress::new(), HashMap::new()));
        Self { started: Instant::now(), last: HashMap::new(), drawn }
    }

    fn show(&mut self, name: &str, line: Line) {
        if self.last.get(name) == Some(&line.text) {
            return;
        }
        self.last.insert(name.to_owned(), line.text.clone());
        let Some((screen, bars)) = &mut self.drawn else {
            eprintln!("{:7.1} s  {name:<28} {}", self.started.elapsed().as_secs_f64(), line.text);
            return;
        };
        let bar = bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = screen.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner:.cyan} {prefix:<28} {wide_msg}"));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(line.text.clone());
        if line.done {
            bar.set_style(style("  {prefix:<28} {wide_msg}"));
            bar.finish_with_message(line.text);
        } else if bar.is_finished() {
            bar.reset();
            bar.set_style(style("{spinner:.cyan} {prefix:<28} {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
        }
    }

    fn clear(&mut self) {
        if let Some((_, bars)) = &mut self.drawn {
            for bar in bars.values() {
                bar.abandon();
            }
        }
    }
}

/// A style by its template; a template that does not parse gives the plain one.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

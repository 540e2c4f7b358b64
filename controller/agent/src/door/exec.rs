//! `exec`: a command in the guest under a name by which it can be found again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use crds::exec::{ExecRequest, ExecResult, ExecState};
use host::qemu::exec::{self, Command, Error, Report, State as Stand};

use super::lookup::{Lookup, ObjectPath, Refusal};
use crate::refusal::refuse;
use crate::running::vitals::Follower;
use control_loop::sentence;

const LONGEST_WAIT: u32 = 30;
const LARGEST_TAIL: u32 = 262_144;
const BOOT_ID: Duration = Duration::from_secs(5);

/// Starts or finds the execution and waits a while for its end.
pub async fn exec(
    State(lookup): State<Arc<Lookup>>,
    Path(path): Path<ObjectPath>,
    request: Result<Json<ExecRequest>, axum::extract::rejection::JsonRejection>,
) -> Response<Body> {
    let Json(request) = match request {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "BadRequest", error.body_text()),
    };
    let follower = match lookup.follower(&path) {
        Ok(follower) => follower,
        Err(refusal) => return *refusal,
    };
    match run(&follower, request).await {
        Ok(result) => Json(result).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn run(follower: &Follower, request: ExecRequest) -> Result<ExecResult, Refusal> {
    let wait = Duration::from_secs(request.wait_seconds.min(LONGEST_WAIT).into());
    let tail = request.tail_bytes.min(LARGEST_TAIL).into();
    let agent = &follower.agent;
    let report = match request.command.is_empty() {
        true => exec::status(agent, &request.name, wait, tail).await,
        false => {
            let stdin = request.stdin.map(String::into_bytes);
            let command = Command { argv: request.command, env: Vec::new(), stdin };
            exec::start(agent, &request.name, &command, wait, tail).await
        }
    };
    let report = report.map_err(|error| failed(&error))?;
    if request.forget && matches!(report.state, Stand::Exited { .. } | Stand::Lost) {
        exec::forget(agent, &request.name).await.map_err(|error| failed(&error))?;
    }
    let boot_id = match follower.vitals().boot_id {
        Some(boot_id) => Some(boot_id),
        None => agent.boot_id(BOOT_ID).await.ok(),
    };
    Ok(result(report, boot_id))
}

fn result(report: Report, boot_id: Option<String>) -> ExecResult {
    let (state, exit_code) = match report.state {
        Stand::Running => (ExecState::Running, None),
        Stand::Exited { code } => (ExecState::Exited, Some(code)),
        Stand::Unknown | Stand::Lost => (ExecState::Lost, None),
    };
    ExecResult {
        state,
        exit_code,
        stdout: String::from_utf8_lossy(&report.stdout.bytes).into_owned(),
        stderr: String::from_utf8_lossy(&report.stderr.bytes).into_owned(),
        stdout_bytes: report.stdout.size,
        stderr_bytes: report.stderr.size,
        boot_id,
    }
}

fn failed(error: &Error) -> Refusal {
    let code = match error {
        Error::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        // The guest boots, is paused or has no agent: the caller may try again.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reason = if code == StatusCode::UNPROCESSABLE_ENTITY { "Invalid" } else { "GuestAgentUnavailable" };
    Box::new(refuse(code, reason, sentence(error)))
}

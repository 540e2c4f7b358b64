//! `x-kubernetes-validations`: CEL rules at every level of a schema.
//!
//! A rule is parsed once, when its CRD arrives, and checked there against the schema ([`fields`]): unknown variables,
//! functions and fields are refused before any object meets them. At run time the object is not copied: [`value`] lends
//! JSON to the interpreter piece by piece.
//!
//! The interpreter has no cost limit of its own, and rules come from users. So [`meter`] rewrites every program before it
//! is stored: loops and whatever can grow a value (`+`, `join`, `replace`) pay for what they are about to do from the
//! thread's [`Budget`]. When it is spent the object is refused, in the official server's words; memory and time are
//! bounded by the budget's size, whatever the rule.
//!
//! Parser, checks and interpreter call themselves for each level of nesting, which is bounded; but the stack of a thread
//! that serves requests may be too small even for that. So they ask for the stack that a rule's depth needs ([`stack`]).

mod fields;
mod library;
mod loops;
mod meter;
mod named;
mod sets;
mod stack;
mod text;
mod types;
mod urls;
mod value;
mod versions;
mod words;

pub(crate) use library::compile_pattern;

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use ::cel::common::ast::IdedExpr;
use ::cel::common::types::{CelBool, CelOptional, CelString};
use ::cel::common::value::{CowVal, Val};
use ::cel::context::VariableResolver;
use ::cel::{Context, Env};
use serde_json::Value;

use super::error::{Cause, FieldError};
use super::structural::Node;

/// Longest source of a rule.
const LONGEST: usize = 16 * 1024;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(library::environment()));

/// What all rules of one object may cost together; a unit is about one node of an expression evaluated (some 50 ns).
pub(crate) struct Budget(Cell<u64>);

impl Budget {
    pub(crate) fn for_object() -> Self {
        Self(Cell::new(2_000_000))
    }
}

/// The values a rule sees.
pub(crate) struct Evaluation<'a> {
    pub node: &'a Node,
    pub value: &'a Value,
    pub old: Option<&'a Value>,
}

/// One compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    source: String,
    program: Program,
    message: Option<String>,
    message_program: Option<Program>,
    reason: Cause,
    field_path: String,
    transition: bool,
    optional_old: bool,
}

/// An expression that pays as it goes, and how deep it is nested.
#[derive(Debug)]
struct Program {
    expression: IdedExpr,
    depth: usize,
}

impl Program {
    fn of(expression: IdedExpr) -> Self {
        let expression = meter::metered(expression);
        Self { depth: meter::depth(&expression), expression }
    }
}

/// Why a rule did not hold.
pub(crate) enum Failure {
    /// It evaluated to false; the message, when an expression made one.
    Refused(Option<String>),
    /// It could not be evaluated.
    Error(String),
    /// The budget is spent.
    Spent,
}

impl Rule {
    /// Compiles one entry of `x-kubernetes-validations` for the level described by `node`; `Err` names the entry's
    /// field that is wrong (`rule`, `messageExpression`, …) and why.
    pub(crate) fn compile(document: &Value, node: &Node, resource: bool) -> Result<Self, (&'static str, String)> {
        let text = |key| document.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let source = text("rule").ok_or(("rule", "must not be empty".to_owned()))?;
        let program = program(source, node, resource).map_err(|why| ("rule", format!("compilation failed: {why}")))?;
        let message_program = match text("messageExpression") {
            None => None,
            Some(source) => Some(
                self::program(source, node, resource)
                    .map_err(|why| ("messageExpression", format!("compilation failed: {why}")))?,
            ),
        };
        let message = text("message").map(str::to_owned);
        if message.is_none() && message_program.is_none() && source.contains('\n') {
            return Err(("message", "message must be specified if rule contains line breaks".to_owned()));
        }
        if message.as_ref().is_some_and(|message| message.contains('\n')) {
            return Err(("message", "message must not contain line breaks".to_owned()));
        }
        let reason = match text("reason") {
            None | Some("FieldValueInvalid") => Cause::Invalid,
            Some("FieldValueForbidden") => Cause::Forbidden,
            Some("FieldValueRequired") => Cause::Required,
            Some("FieldValueDuplicate") => Cause::Duplicate,
            Some(other) => return Err(("reason", format!("unsupported reason {other:?}"))),
        };
        let field_path = relative_path(text("fieldPath").unwrap_or_default()).ok_or_else(|| {
            ("fieldPath", "fieldPath must be a path like .spec.name relative to the rule's location".to_owned())
        })?;
        let transition = program.references().has_variable("oldSelf");
        let optional_old = document.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false);
        if optional_old && !transition {
            return Err(("optionalOldSelf", "may not be set if oldSelf is not used in rule".to_owned()));
        }
        Ok(Self {
            source: source.to_owned(),
            program: Program::of(program),
            message,
            message_program: message_program.map(Program::of),
            reason,
            field_path,
            transition,
            optional_old,
        })
    }

    /// Whether it compares with the stored object.
    pub(crate) fn is_transition(&self) -> bool {
        self.transition
    }

    /// `None` when the rule holds, or does not apply because there is no old value to compare with.
    pub(crate) fn check(&self, evaluation: &Evaluation<'_>, budget: &Budget) -> Option<Failure> {
        if self.transition && !self.optional_old && evaluation.old.is_none() {
            return None;
        }
        let scope = Scope::new(self, evaluation);
        match run(&self.program, &scope, budget, |result| result.downcast_ref::<CelBool>().map(|b| *b.inner())) {
            Ok(Some(true)) => None,
            Ok(Some(false)) => Some(Failure::Refused(self.message(&scope, budget))),
            Ok(None) => Some(Failure::Error("the rule is no boolean".to_owned())),
            Err(failure) => Some(failure),
        }
    }

    fn message(&self, scope: &Scope<'_>, budget: &Budget) -> Option<String> {
        let program = self.message_program.as_ref()?;
        run(program, scope, budget, |result| result.downcast_ref::<CelString>().map(|s| s.inner().trim().to_owned()))
            .ok()
            .flatten()
            .filter(|text| !text.is_empty() && !text.contains('\n'))
    }
}

impl Failure {
    /// The error at `path`, worded as the official server words it.
    pub(crate) fn into_error(self, rule: &Rule, node: &Node, path: String) -> FieldError {
        let path = match (path.as_str(), rule.field_path.as_str()) {
            (_, "") => path,
            ("<nil>", inner) => inner.trim_start_matches('.').to_owned(),
            (outer, inner) => format!("{outer}{inner}"),
        };
        let kind = node.kind.name();
        let invalid =
            |why: String| FieldError::new(path.clone(), Cause::Invalid, format!("Invalid value: \"{kind}\": {why}"));
        match self {
            Self::Spent => invalid(
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            ),
            Self::Error(why) => {
                invalid(format!("{why} evaluating rule: {}", rule.message.as_ref().unwrap_or(&rule.source)))
            }
            Self::Refused(message) => {
                let why =
                    message.or_else(|| rule.message.clone()).unwrap_or_else(|| format!("failed rule: {}", rule.source));
                match rule.reason {
                    Cause::Forbidden => FieldError::forbidden(path, why),
                    Cause::Required => FieldError::required(path, &why),
                    Cause::Duplicate => FieldError::duplicate(path, &Value::from(kind)),
                    _ => invalid(why),
                }
            }
        }
    }
}

fn program(source: &str, node: &Node, resource: bool) -> Result<IdedExpr, String> {
    if source.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    stack::deepest(|| {
        let program = ENV.parser().parse(source).map_err(|errors| errors.to_string())?;
        meter::check_depth(&program)?;
        fields::check(&program, node, resource)?;
        Ok(program)
    })
}

/// Runs a program, takes what is wanted out of its result, and settles with the budget.
fn run<T>(
    program: &Program,
    scope: &Scope<'_>,
    budget: &Budget,
    take: impl FnOnce(&dyn Val) -> T,
) -> Result<T, Failure> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.set_variable_resolver(scope);
    meter::refill(budget.0.get());
    let result = stack::for_depth(program.depth, || {
        ::cel::Value::resolve_val(&program.expression, &context).map(|value| take(value.as_ref()))
    });
    match meter::drain() {
        None => {
            budget.0.set(0);
            Err(Failure::Spent)
        }
        Some(left) => {
            budget.0.set(left);
            result.map_err(|error| Failure::Error(words::worded(&error)))
        }
    }
}

/// `self` and `oldSelf`.
struct Scope<'v> {
    this: Box<dyn Val + 'v>,
    old: Option<Box<dyn Val + 'v>>,
}

impl<'v> Scope<'v> {
    fn new(rule: &Rule, evaluation: &Evaluation<'v>) -> Self {
        let old = evaluation.old.filter(|_| rule.transition).map(|old| value::lend(old, Some(evaluation.node)));
        let old: Option<Box<dyn Val + 'v>> = match (rule.optional_old, old) {
            (false, old) => old,
            (true, Some(old)) => Some(Box::new(CelOptional::of(old))),
            (true, None) => Some(Box::new(CelOptional::none())),
        };
        Self { this: value::lend(evaluation.value, Some(evaluation.node)), old }
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable {
            "self" => Some(CowVal::Borrowed(self.this.as_ref())),
            "oldSelf" => self.old.as_deref().map(CowVal::Borrowed),
            _ => None,
        }
    }
}

/// `.spec.name` or `.labels['a.b']` as it is appended to a path.
fn relative_path(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    if !text.starts_with(['.', '[']) || text.contains('\n') {
        return None;
    }
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("['") {
            let (name, tail) = tail.split_once("']")?;
            out.push_str(&format!("[{name}]"));
            rest = tail;
        } else {
            let tail = rest.strip_prefix('.')?;
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if end == 0 {
                return None;
            }
            out.push('.');
            out.push_str(&tail[..end]);
            rest = &tail[end..];
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;

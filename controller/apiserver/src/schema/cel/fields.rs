//! Checking a rule against the schema it stands in, when the CRD arrives.
//!
//! Not a type checker: it follows `self` through selections, indexes and loops as far as the schema says what is there,
//! and refuses names that cannot exist. That catches the mistakes people make (a typo in a field or function) where they
//! can be fixed, instead of at the first object.

use ::cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, operators};

use super::super::structural::{Additional, Kind, Node};
use super::library;
use super::loops;
use super::meter::children;
use super::words::unescape;

/// What is known of an expression's value.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// A value of this schema; the flag says that it is a resource (has apiVersion, kind and metadata).
    Node(&'a Node, bool),
    Nothing,
}

/// Names every variable, function and field that does not exist.
pub(super) fn check(program: &IdedExpr, node: &Node, resource: bool) -> Result<(), String> {
    let mut checker = Checker { this: Known::Node(node, resource), loops: Vec::new() };
    checker.visit(program).map(|_| ())
}

struct Checker<'a> {
    this: Known<'a>,
    loops: Vec<(String, Known<'a>)>,
}

impl<'a> Checker<'a> {
    fn visit(&mut self, expression: &IdedExpr) -> Result<Known<'a>, String> {
        match &expression.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.knows(root)
                    && library::is_qualified(root)
                {
                    return Ok(Known::Nothing);
                }
                let operand = self.visit(&select.operand)?;
                field(operand, &select.field)
            }
            Expr::Call(call) => {
                let namespace = match call.target.as_ref().map(|target| &target.expr) {
                    Some(Expr::Ident(root)) if !self.knows(root) && library::is_qualified(root) => Some(root.as_str()),
                    _ => None,
                };
                let target = match &call.target {
                    Some(target) if namespace.is_none() => self.visit(target)?,
                    _ => Known::Nothing,
                };
                let mut arguments = Vec::with_capacity(call.args.len());
                for argument in &call.args {
                    arguments.push(self.visit(argument)?);
                }
                if !library::knows(&call.func_name, call.target.is_some(), namespace) {
                    return Err(format!("undeclared reference to '{}' (in container '')", call.func_name));
                }
                Ok(match call.func_name.as_str() {
                    operators::INDEX => item(arguments.first().copied().unwrap_or(target)),
                    "value" | "orValue" if call.target.is_some() => target,
                    _ => Known::Nothing,
                })
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            _ => {
                for child in children(expression) {
                    self.visit(child)?;
                }
                Ok(Known::Nothing)
            }
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<Known<'a>, String> {
        let range = self.visit(&comprehension.iter_range)?;
        let init = self.visit(&comprehension.accu_init)?;
        let depth = self.loops.len();
        // A loop through nothing only gives a name to a value.
        if comprehension.iter_var == loops::UNUSED {
            self.loops.push((comprehension.accu_var.clone(), init));
            let result = self.visit(&comprehension.result);
            self.loops.truncate(depth);
            return result;
        }
        let element = match range {
            Known::Node(node, _) if node.kind == Kind::Array => item(range),
            _ => Known::Nothing,
        };
        self.loops.push((comprehension.iter_var.clone(), element));
        if let Some(second) = &comprehension.iter_var2 {
            self.loops.push((second.clone(), Known::Nothing));
        }
        self.loops.push((comprehension.accu_var.clone(), Known::Nothing));
        self.visit(&comprehension.loop_cond)?;
        self.visit(&comprehension.loop_step)?;
        self.visit(&comprehension.result)?;
        self.loops.truncate(depth);
        Ok(Known::Nothing)
    }

    fn knows(&self, name: &str) -> bool {
        matches!(name, "self" | "oldSelf") || self.loops.iter().any(|(variable, _)| variable == name)
    }

    fn name(&self, name: &str) -> Result<Known<'a>, String> {
        if let Some((_, known)) = self.loops.iter().rev().find(|(variable, _)| variable == name) {
            return Ok(*known);
        }
        match name {
            "self" => Ok(self.this),
            "oldSelf" => Ok(match self.this {
                Known::Node(node, resource) => Known::Node(node, resource),
                Known::Nothing => Known::Nothing,
            }),
            _ if name.starts_with('@') || library::is_type(name) => Ok(Known::Nothing),
            _ => Err(format!("undeclared reference to '{name}' (in container '')")),
        }
    }
}

fn field<'a>(operand: Known<'a>, name: &str) -> Result<Known<'a>, String> {
    let Known::Node(node, resource) = operand else { return Ok(Known::Nothing) };
    if node.kind != Kind::Object {
        return Ok(Known::Nothing);
    }
    let plain = unescape(name);
    if let Some(child) = node.child(name).or_else(|| node.child(&plain)) {
        return Ok(Known::Node(child, child.embedded));
    }
    let implied = resource && matches!(name, "apiVersion" | "kind" | "metadata");
    if implied || !matches!(node.additional, Additional::Closed) {
        return Ok(Known::Nothing);
    }
    Err(format!("undefined field '{name}'"))
}

fn item(operand: Known<'_>) -> Known<'_> {
    match operand {
        Known::Node(node, _) => match (&node.items, &node.additional) {
            (Some(items), _) => Known::Node(items, items.embedded),
            (None, Additional::Schema(value)) => Known::Node(value, value.embedded),
            _ => Known::Nothing,
        },
        Known::Nothing => Known::Nothing,
    }
}

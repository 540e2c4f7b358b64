//! Paying for evaluation.
//!
//! The interpreter visits an expression's nodes once per evaluation, except in loops, and its values stay as large as
//! their inputs, except where something grows them. So a program whose loops and growing operations pay in advance is
//! bounded. The rewrite is done once per rule:
//!
//! ```text
//! xs.all(x, BODY)   →  @range(xs, nodes in BODY).all(x, BODY)
//! a + b             →  @add(a, b)
//! s.matches(p)      →  s.@matches(p)      with a cache of compiled patterns
//! s.replace(a, b)   →  s.@replace(a, b)
//! xs.join(s)        →  xs.@join(s)
//! s.format(xs)      →  s.@format(xs)
//! s.split(a), a==b  →  @pay(s, k).split(a)   inside loops: linear work on a value that may be large
//! a.b.c             →  a["b"]["c"]           not for paying: the interpreter looks up a dotted name as a variable first,
//!                                            prefix by prefix, which costs more than all the rest of a short rule
//! ```

use std::cell::Cell;

use ::cel::ExecutionError;
use ::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use ::cel::common::types::{CelInt, CelString};

use super::library::is_qualified;

/// Deeper expressions would need too much stack to evaluate.
const DEEPEST: usize = 160;

thread_local! {
    /// What the running evaluation may still spend; `None` once it tried to spend more.
    static FUEL: Cell<Option<u64>> = const { Cell::new(Some(0)) };
}

/// Starts an evaluation on this thread.
pub(super) fn refill(amount: u64) {
    FUEL.set(Some(amount));
}

/// Ends it: what is left, or `None` when it was not enough.
pub(super) fn drain() -> Option<u64> {
    FUEL.replace(Some(0))
}

/// Pays, or fails the evaluation.
pub(super) fn charge(amount: u64) -> Result<(), ExecutionError> {
    let left = FUEL.get().and_then(|fuel| fuel.checked_sub(amount));
    FUEL.set(left);
    left.map(|_| ())
        .ok_or_else(|| ExecutionError::function_error("budget", "operation cancelled: actual cost limit exceeded"))
}

/// Refuses programs nested too deeply; walks with its own stack, as the program may be very deep.
pub(super) fn check_depth(program: &IdedExpr) -> Result<(), String> {
    if depth(program) > DEEPEST {
        return Err(format!("expression nested deeper than {DEEPEST} levels"));
    }
    Ok(())
}

/// How many expressions stand in each other at most.
pub(super) fn depth(program: &IdedExpr) -> usize {
    let (mut pending, mut deepest) = (vec![(program, 1)], 0);
    while let Some((expression, depth)) = pending.pop() {
        deepest = deepest.max(depth);
        children(expression).into_iter().for_each(|child| pending.push((child, depth + 1)));
    }
    deepest
}

/// The expressions directly below.
pub(super) fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Comprehension(c) => vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect(),
        Expr::Struct(literal) => literal.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry_children(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The program, paying as it goes.
pub(super) fn metered(mut program: IdedExpr) -> IdedExpr {
    rewrite(&mut program, false);
    program
}

fn rewrite(expression: &mut IdedExpr, looping: bool) {
    match &mut expression.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| rewrite(target, looping));
            call.args.iter_mut().for_each(|argument| rewrite(argument, looping));
            if looping {
                pay_for_operand(call);
            }
            let metered = match (call.func_name.as_str(), call.args.len()) {
                (operators::ADD, 2) => Some("@add"),
                ("matches", 1) => Some("@matches"),
                ("matches", 2) if call.target.is_none() => Some("@matches"),
                ("replace", _) => Some("@replace"),
                ("join", _) => Some("@join"),
                ("format", 1) if call.target.is_some() => Some("@format"),
                _ => None,
            };
            if let Some(name) = metered {
                call.func_name = name.to_owned();
            }
        }
        Expr::Comprehension(comprehension) => rewrite_loop(comprehension, looping),
        Expr::List(list) => list.elements.iter_mut().for_each(|element| rewrite(element, looping)),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| rewrite_entry(&mut entry.expr, looping)),
        Expr::Struct(literal) => literal.entries.iter_mut().for_each(|entry| rewrite_entry(&mut entry.expr, looping)),
        Expr::Select(select) => {
            rewrite(&mut select.operand, looping);
            if !select.test {
                let operand = std::mem::take(&mut *select.operand);
                let field = LiteralValue::String(CelString::from(std::mem::take(&mut select.field)));
                let field = IdedExpr { id: operand.id, expr: Expr::Literal(field) };
                let func_name = operators::INDEX.to_owned();
                expression.expr = Expr::Call(CallExpr { func_name, target: None, args: vec![operand, field] });
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

/// Linear work on one operand, done again and again, is paid by the operand's length.
fn pay_for_operand(call: &mut CallExpr) {
    // `sets.contains(…)`: a name and no value, and the function pays itself.
    if call.target.as_ref().is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if is_qualified(name))) {
        return;
    }
    let rate = match call.func_name.as_str() {
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::GREATER
        | operators::LESS_EQUALS
        | operators::GREATER_EQUALS => 1,
        "split" => 256,
        "lowerAscii" | "upperAscii" | "trim" | "reverse" | "substring" | "charAt" | "indexOf" | "lastIndexOf"
        | "contains" | "size" | "string" | "bytes" | "find" | "findAll" | "startsWith" | "endsWith" => 16,
        _ => return,
    };
    let Some(operand) = call.target.as_deref_mut().or(call.args.first_mut()) else { return };
    let id = operand.id;
    let inner = std::mem::take(operand);
    *operand = IdedExpr { id, expr: priced("@pay", id, inner, rate) };
}

/// `name(inner, amount)`.
fn priced(name: &str, id: u64, inner: IdedExpr, amount: i64) -> Expr {
    let amount = IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(CelInt::from(amount))) };
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args: vec![inner, amount] })
}

fn rewrite_entry(entry: &mut EntryExpr, looping: bool) {
    match entry {
        EntryExpr::StructField(field) => rewrite(&mut field.value, looping),
        EntryExpr::MapEntry(entry) => {
            rewrite(&mut entry.key, looping);
            rewrite(&mut entry.value, looping);
        }
    }
}

fn rewrite_loop(comprehension: &mut ComprehensionExpr, looping: bool) {
    let weight = size(&comprehension.loop_step) + size(&comprehension.loop_cond);
    rewrite(&mut comprehension.accu_init, looping);
    rewrite(&mut comprehension.loop_cond, true);
    rewrite(&mut comprehension.result, looping);
    rewrite_step(&mut comprehension.loop_step, &comprehension.accu_var);
    rewrite(&mut comprehension.iter_range, looping);
    let id = comprehension.iter_range.id;
    let range = std::mem::take(&mut comprehension.iter_range);
    comprehension.iter_range = IdedExpr { id, expr: priced("@range", id, range, weight as i64) };
}

/// `map` and `filter` append to their accumulator by `+`; the interpreter recognises that shape and appends in place, so
/// it is left alone. The loop has paid for it.
fn rewrite_step(step: &mut IdedExpr, accumulator: &str) {
    if let Expr::Call(call) = &mut step.expr {
        let appends = call.func_name == operators::ADD
            && call.args.len() == 2
            && matches!(&call.args[0].expr, Expr::Ident(name) if name == accumulator);
        if appends {
            call.args.iter_mut().for_each(|argument| rewrite(argument, true));
            return;
        }
        if call.func_name == operators::CONDITIONAL && call.target.is_none() {
            call.args.iter_mut().for_each(|argument| rewrite_step(argument, accumulator));
            return;
        }
    }
    rewrite(step, true);
}

fn size(expression: &IdedExpr) -> usize {
    1 + children(expression).into_iter().map(size).sum::<usize>()
}

//! The functions rules may call: CEL's standard library, the strings extension, and Kubernetes' lists and regex
//! libraries; addresses and quantities are in [`super::types`], the rest in files of their names.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

use ::cel::common::ast::operators;
use ::cel::common::traits::Iterable;
use ::cel::common::types::{CelBool, CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE};
use ::cel::common::value::{CowVal, Val};
use ::cel::{DeclarationError, Env, ExecutionError};
use regex::Regex;

use super::{loops, meter, named, sets, text as format, types, urls, versions};

type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
pub(super) type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The environment all rules are compiled and run in.
pub(super) fn environment() -> Env {
    let mut env = Env::stdlib();
    // Names are declared once, here: a clash is a programming error that the first test would show.
    let declared = declare(&mut env);
    debug_assert!(declared.is_ok(), "{declared:?}");
    env
}

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    ::cel::extensions::strings(env)?;
    env.add_overload("@range", "@range", vec![DYN_TYPE, INT_TYPE], range)?;
    env.add_overload("@pay", "@pay", vec![DYN_TYPE, INT_TYPE], pay)?;
    env.add_overload("@add", "@add", vec![DYN_TYPE, DYN_TYPE], add)?;
    env.add_overload("@matches", "@matches", vec![STRING_TYPE, STRING_TYPE], matches)?;
    env.add_member_overload("@matches", "string.@matches", STRING_TYPE, vec![STRING_TYPE], matches)?;
    env.add_member_overload("@replace", "string.@replace", STRING_TYPE, vec![STRING_TYPE, STRING_TYPE], replace)?;
    let limited = vec![STRING_TYPE, STRING_TYPE, INT_TYPE];
    env.add_member_overload("@replace", "string.@replace(n)", STRING_TYPE, limited, replace)?;
    env.add_member_overload("@join", "list.@join", LIST_TYPE, vec![], join)?;
    env.add_member_overload("@join", "list.@join(string)", LIST_TYPE, vec![STRING_TYPE], join)?;
    env.add_member_overload("find", "string.find", STRING_TYPE, vec![STRING_TYPE], find)?;
    env.add_member_overload("findAll", "string.findAll", STRING_TYPE, vec![STRING_TYPE], find_all)?;
    env.add_member_overload("findAll", "string.findAll(n)", STRING_TYPE, vec![STRING_TYPE, INT_TYPE], find_all)?;
    env.add_member_overload("isSorted", "list.isSorted", LIST_TYPE, vec![], is_sorted)?;
    env.add_member_overload("sum", "list.sum", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list.min", LIST_TYPE, vec![], |a| extreme(a, Ordering::Less))?;
    env.add_member_overload("max", "list.max", LIST_TYPE, vec![], |a| extreme(a, Ordering::Greater))?;
    env.add_member_overload("indexOf", "list.indexOf", LIST_TYPE, vec![DYN_TYPE], index_of)?;
    env.add_member_overload("lastIndexOf", "list.lastIndexOf", LIST_TYPE, vec![DYN_TYPE], last_index_of)?;
    loops::declare(env)?;
    types::declare(env)?;
    sets::declare(env)?;
    versions::declare(env)?;
    urls::declare(env)?;
    named::declare(env)?;
    format::declare(env)
}

/// Functions called on nothing.
const GLOBAL: &str = "size int uint double string bytes bool dyn type duration timestamp matches ip isIP cidr isCIDR quantity \
     isQuantity isURL url semver isSemver has";
/// Functions called on a value.
const MEMBER: &str = "size contains startsWith endsWith matches charAt indexOf lastIndexOf join lowerAscii upperAscii trim \
     replace split substring reverse find findAll isSorted sum min max getDate getDayOfMonth getDayOfWeek getDayOfYear \
     getFullYear getHours getMilliseconds getMinutes getMonth getSeconds hasValue value or orValue optMap optFlatMap family \
     isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast containsIP containsCIDR masked \
     prefixLength ip sign isInteger asInteger asApproximateFloat add sub isGreaterThan isLessThan compareTo major minor patch getScheme getHost getHostname getPort \
     getEscapedPath getQuery validate format";

/// Whether a call can be resolved at all; `namespace` is what it is qualified with (`optional.of`).
pub(super) fn knows(name: &str, member: bool, namespace: Option<&str>) -> bool {
    // Operators have names that no source can spell (`_+_`, `@in`).
    let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
    let names = match (namespace, member) {
        (Some("optional"), _) => "of none ofNonZeroValue",
        (Some("sets"), _) => "contains equivalent intersects",
        (Some("format"), _) => return named::is_format(name),
        (Some(_), _) => "",
        (None, true) => MEMBER,
        (None, false) => GLOBAL,
    };
    operator || names.split_whitespace().any(|known| known == name)
}

/// Whether a name opens a namespace of functions (`optional.of`).
pub(super) fn is_qualified(name: &str) -> bool {
    matches!(name, "optional" | "sets" | "format")
}

/// Whether a name is a type's.
pub(super) fn is_type(name: &str) -> bool {
    matches!(
        name,
        "bool"
            | "int"
            | "uint"
            | "double"
            | "string"
            | "bytes"
            | "list"
            | "map"
            | "null_type"
            | "type"
            | "optional_type"
    )
}

fn wrong(what: &str) -> ExecutionError {
    ExecutionError::function_error(what, "no such overload")
}

pub(super) fn text<'b>(arguments: &'b [CowVal<'_, '_>], index: usize) -> Result<&'b str, ExecutionError> {
    arguments
        .get(index)
        .and_then(|v| v.downcast_ref::<CelString>())
        .map(CelString::inner)
        .ok_or_else(|| wrong("string"))
}

fn int(arguments: &[CowVal<'_, '_>], index: usize) -> Option<i64> {
    arguments.get(index).and_then(|v| v.downcast_ref::<CelInt>()).map(|int| *int.inner())
}

fn first<'b, 'v>(mut arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    if arguments.is_empty() { Err(wrong("argument")) } else { Ok(arguments.swap_remove(0)) }
}

/// How long a value is, for paying.
pub(super) fn length(value: &dyn Val) -> u64 {
    match value.downcast_ref::<CelString>() {
        Some(text) => text.inner().len() as u64,
        None => value.as_sizer().map_or(1, |sizer| (*sizer.size().inner()).unsigned_abs() * 16),
    }
}

fn range<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let weight = int(&arguments, 1).unwrap_or(1).unsigned_abs() + 2;
    let count = arguments[0].as_sizer().map_or(0, |sizer| (*sizer.size().inner()).unsigned_abs());
    meter::charge(count.saturating_mul(weight))?;
    first(arguments)
}

fn pay<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let rate = int(&arguments, 1).unwrap_or(1).unsigned_abs();
    meter::charge(length(arguments[0].as_ref()).saturating_mul(rate) / 64)?;
    first(arguments)
}

fn add<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let [left, right] = arguments.as_slice() else { return Err(wrong("_+_")) };
    if left.as_sizer().is_some() {
        meter::charge(length(left.as_ref()).saturating_add(length(right.as_ref())) / 8 + 1)?;
    }
    let adder = left.as_adder().ok_or_else(|| {
        let kinds = vec![left.get_type().name().to_owned(), right.get_type().name().to_owned()];
        ExecutionError::no_such_overload(operators::ADD, kinds)
    })?;
    Ok(CowVal::Owned(adder.add(right.as_ref())?.into_owned()))
}

fn replace<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let (source, from, to) = (text(&arguments, 0)?, text(&arguments, 1)?, text(&arguments, 2)?);
    let limit = int(&arguments, 3).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let places = (source.len() + 1).min(limit) as u64;
    meter::charge(source.len() as u64 / 8 + places.saturating_mul(to.len() as u64) / 8)?;
    Ok(CowVal::owned(CelString::from(source.replacen(from, to, limit))))
}

fn join<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let separator = if arguments.len() > 1 { text(&arguments, 1)? } else { "" };
    let mut out = String::new();
    let mut items = elements(&arguments[0])?.iter();
    let mut started = false;
    while let Some(item) = items.next() {
        let item = item.downcast_ref::<CelString>().ok_or_else(|| wrong("join"))?;
        meter::charge((item.inner().len() + separator.len()) as u64 / 8 + 1)?;
        if started {
            out.push_str(separator);
        }
        out.push_str(item.inner());
        started = true;
    }
    drop(items);
    Ok(CowVal::owned(CelString::from(out)))
}

thread_local! {
    /// Patterns of rules, compiled; rules reuse few patterns, so a full cache is simply emptied.
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

fn with_pattern<T>(pattern: &str, use_it: impl FnOnce(&Regex) -> T) -> Result<T, ExecutionError> {
    PATTERNS.with_borrow_mut(|patterns| {
        if !patterns.contains_key(pattern) {
            meter::charge(2_000)?;
            let compiled = limited(pattern, 1 << 20).map_err(|why| ExecutionError::function_error("matches", why))?;
            if patterns.len() >= 512 {
                patterns.clear();
            }
            patterns.insert(pattern.to_owned(), compiled);
        }
        patterns.get(pattern).map(use_it).ok_or_else(|| wrong("matches"))
    })
}

/// A pattern of a schema; its automaton is limited, but generously: it is compiled once.
pub(crate) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    limited(pattern, 8 << 20)
}

fn limited(pattern: &str, bytes: usize) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(bytes)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|error| error.to_string())
}

fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let (subject, pattern) = (text(&arguments, 0)?, text(&arguments, 1)?);
    meter::charge(subject.len() as u64 / 4 + 4)?;
    with_pattern(pattern, |regex| regex.is_match(subject)).map(|fits| CowVal::owned(CelBool::from(fits)))
}

fn find<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let (subject, pattern) = (text(&arguments, 0)?, text(&arguments, 1)?);
    meter::charge(subject.len() as u64 / 4 + 4)?;
    let found = with_pattern(pattern, |regex| regex.find(subject).map(|m| m.as_str().to_owned()))?;
    Ok(CowVal::owned(CelString::from(found.unwrap_or_default())))
}

fn find_all<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let (subject, pattern) = (text(&arguments, 0)?, text(&arguments, 1)?);
    let limit = int(&arguments, 2).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    meter::charge(subject.len() as u64 * 4 + 4)?;
    let found: Vec<Box<dyn Val>> = with_pattern(pattern, |regex| {
        regex.find_iter(subject).take(limit).map(|m| boxed(CelString::from(m.as_str().to_owned()))).collect()
    })?;
    Ok(CowVal::owned(CelList::from(found)))
}

fn boxed(value: impl Val + 'static) -> Box<dyn Val> {
    Box::new(value)
}

pub(super) fn elements<'b, 'v>(list: &'b CowVal<'_, 'v>) -> Result<&'b (dyn Iterable + 'v), ExecutionError> {
    list.as_iterable().ok_or_else(|| wrong("list"))
}

fn compare(left: &dyn Val, right: &dyn Val) -> Result<Ordering, ExecutionError> {
    left.as_comparer().ok_or_else(|| wrong("comparison"))?.compare(right)
}

fn is_sorted<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    meter::charge(length(arguments[0].as_ref()) / 16)?;
    let mut sorted = true;
    {
        let mut items = elements(&arguments[0])?.iter();
        let mut previous: Option<&dyn Val> = None;
        while let Some(item) = items.next() {
            if let Some(previous) = previous
                && compare(previous, item)? == Ordering::Greater
            {
                sorted = false;
                break;
            }
            previous = Some(item);
        }
    }
    Ok(CowVal::owned(CelBool::from(sorted)))
}

fn sum<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    meter::charge(length(arguments[0].as_ref()) / 16)?;
    let mut total: Option<Box<dyn Val + 'v>> = None;
    {
        let mut items = elements(&arguments[0])?.iter();
        while let Some(item) = items.next() {
            total = Some(match total {
                None => item.clone_as_boxed(),
                Some(total) => total.as_adder().ok_or_else(|| wrong("sum"))?.add(item)?.into_owned(),
            });
        }
    }
    Ok(total.map_or_else(|| CowVal::owned(CelInt::from(0)), CowVal::Owned))
}

fn extreme<'b, 'v>(arguments: Arguments<'b, 'v>, wanted: Ordering) -> Outcome<'b, 'v> {
    meter::charge(length(arguments[0].as_ref()) / 16)?;
    let mut best: Option<Box<dyn Val + 'v>> = None;
    {
        let mut items = elements(&arguments[0])?.iter();
        while let Some(item) = items.next() {
            let better = match &best {
                None => true,
                Some(best) => compare(item, best.as_ref())? == wanted,
            };
            if better {
                best = Some(item.clone_as_boxed());
            }
        }
    }
    best.map(CowVal::Owned).ok_or_else(|| ExecutionError::function_error("min/max", "called on empty list"))
}

fn index_of<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    position(&arguments, true)
}

fn last_index_of<'b, 'v>(arguments: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    position(&arguments, false)
}

fn position<'b, 'v>(arguments: &[CowVal<'_, '_>], stop_at_first: bool) -> Outcome<'b, 'v> {
    meter::charge(length(arguments[0].as_ref()) / 16)?;
    let mut items = elements(&arguments[0])?.iter();
    let (mut found, mut index) = (-1i64, 0i64);
    while let Some(item) = items.next() {
        if item.equals(arguments[1].as_ref()) {
            found = index;
            if stop_at_first {
                break;
            }
        }
        index += 1;
    }
    Ok(CowVal::owned(CelInt::from(found)))
}

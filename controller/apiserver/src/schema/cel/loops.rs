//! Loops with two variables: `all(i, v, …)`, `exists`, `existsOne`, `transformList`, `transformMap` and `transformMapEntry`, as
//! cel-go has them: an index and an element of a list, or a key and a value of a map.
//!
//! The interpreter knows loops with one variable. So these are written as such when a rule is parsed:
//!
//! ```text
//! xs.all(i, v, BODY)           →  bind(@it, xs, @keys(@it).all(i, bind(v, @it[i], BODY)))
//! xs.transformMap(k, v, VALUE) →  … .map(k, bind(v, @it[k], [k, VALUE])), and @mapped(…) around it
//! bind(name, value, BODY)      →  a loop over nothing, whose accumulator is the name
//! ```
//!
//! A loop in another one's body has an `@it` of its own; the outer one's is not asked for there.

use std::collections::HashMap;

use ::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators};
use ::cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString, CelUInt, DYN_TYPE, LIST_TYPE};
use ::cel::common::value::{BuiltinRef, CowVal, Val};
use ::cel::parser::{Macro, MacroExprHelper, ParseError};
use ::cel::{DeclarationError, Env, ExecutionError};

use super::library::{Outcome, elements};
use super::meter;

/// What is gone through.
const IT: &str = "@it";
/// What a loop has found out so far; the interpreter knows the standard loops by this name.
const RESULT: &str = "@result";
/// The variable of a loop that goes through nothing.
pub(super) const UNUSED: &str = "#unused";

/// What is asked of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    All,
    Exists,
    ExistsOne,
    TransformList,
    TransformMap,
    TransformMapEntry,
}

impl Loop {
    /// What makes the outcome out of the list that was gathered.
    fn made(self) -> Option<&'static str> {
        match self {
            Self::TransformMap => Some("@mapped"),
            Self::TransformMapEntry => Some("@merged"),
            Self::All | Self::Exists | Self::ExistsOne | Self::TransformList => None,
        }
    }
}

/// Declares the loops and what they need.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("@keys", "@keys", vec![DYN_TYPE], keys)?;
    env.add_overload("@mapped", "@mapped", vec![LIST_TYPE], mapped)?;
    env.add_overload("@merged", "@merged", vec![LIST_TYPE], merged)?;
    for (name, kind, filtered) in [
        ("all", Loop::All, false),
        ("exists", Loop::Exists, false),
        ("exists_one", Loop::ExistsOne, false),
        ("existsOne", Loop::ExistsOne, false),
        ("transformList", Loop::TransformList, false),
        ("transformList", Loop::TransformList, true),
        ("transformMap", Loop::TransformMap, false),
        ("transformMap", Loop::TransformMap, true),
        ("transformMapEntry", Loop::TransformMapEntry, false),
        ("transformMapEntry", Loop::TransformMapEntry, true),
    ] {
        let arguments = if filtered { 4 } else { 3 };
        env.add_macro(Macro::receiver(name, arguments, move |helper, target, arguments| {
            let Some(target) = target.take() else { return Ok(None) };
            Writer { helper }.expand(kind, target, std::mem::take(arguments)).map(Some)
        }))?;
    }
    Ok(())
}

/// Writes expressions with numbers of their own.
struct Writer<'w, 'h> {
    helper: &'w mut MacroExprHelper<'h>,
}

impl Writer<'_, '_> {
    fn expand(&mut self, kind: Loop, target: IdedExpr, arguments: Vec<IdedExpr>) -> Result<IdedExpr, ParseError> {
        let mut arguments = arguments.into_iter();
        let (key, value) = (self.name(arguments.next())?, self.name(arguments.next())?);
        if key == value {
            return Err(self.helper.new_error(target.id, format!("duplicate variable name: {key}")));
        }
        // What comes last is the body; with a filter it is the second of two.
        let (first, second) = (arguments.next().unwrap_or_default(), arguments.next());
        let (filter, body) = match second {
            Some(body) => (Some(first), body),
            None => (None, first),
        };
        let body = match kind {
            Loop::TransformMap => {
                let key = self.ident(&key);
                self.expression(Expr::List(ListExpr::new(vec![key, body])))
            }
            _ => body,
        };
        let body = self.with_value(&key, &value, body);
        let filter = filter.map(|filter| self.with_value(&key, &value, filter));
        let it = self.ident(IT);
        let keys = self.call("@keys", vec![it]);
        let mut around = self.around(kind, keys, key, filter, body);
        // Outside of the loop: the interpreter appends in place only where what was appended is the result itself.
        if let Some(made) = kind.made() {
            around = self.call(made, vec![around]);
        }
        Ok(self.bind(IT, target, around))
    }

    /// The loop through the keys.
    fn around(
        &mut self,
        kind: Loop,
        keys: IdedExpr,
        key: String,
        filter: Option<IdedExpr>,
        body: IdedExpr,
    ) -> IdedExpr {
        let (accu_init, loop_cond, loop_step, result) = match kind {
            Loop::All => {
                let (so_far, before) = (self.ident(RESULT), self.ident(RESULT));
                let goes_on = self.call(operators::NOT_STRICTLY_FALSE, vec![so_far]);
                let step = self.call(operators::LOGICAL_AND, vec![before, body]);
                (self.flag(true), goes_on, step, self.ident(RESULT))
            }
            Loop::Exists => {
                let (so_far, before) = (self.ident(RESULT), self.ident(RESULT));
                let none = self.call(operators::LOGICAL_NOT, vec![so_far]);
                let goes_on = self.call(operators::NOT_STRICTLY_FALSE, vec![none]);
                let step = self.call(operators::LOGICAL_OR, vec![before, body]);
                (self.flag(false), goes_on, step, self.ident(RESULT))
            }
            Loop::ExistsOne => {
                let (before, one, unchanged) = (self.ident(RESULT), self.int(1), self.ident(RESULT));
                let more = self.call(operators::ADD, vec![before, one]);
                let step = self.call(operators::CONDITIONAL, vec![body, more, unchanged]);
                let (count, one) = (self.ident(RESULT), self.int(1));
                (self.int(0), self.flag(true), step, self.call(operators::EQUALS, vec![count, one]))
            }
            Loop::TransformList | Loop::TransformMap | Loop::TransformMapEntry => {
                let (before, unchanged) = (self.ident(RESULT), self.ident(RESULT));
                let item = self.expression(Expr::List(ListExpr::new(vec![body])));
                let mut step = self.call(operators::ADD, vec![before, item]);
                if let Some(filter) = filter {
                    step = self.call(operators::CONDITIONAL, vec![filter, step, unchanged]);
                }
                (self.expression(Expr::List(ListExpr::default())), self.flag(true), step, self.ident(RESULT))
            }
        };
        self.comprehension(ComprehensionExpr {
            iter_range: keys,
            iter_var: key,
            iter_var2: None,
            accu_var: RESULT.to_owned(),
            accu_init,
            loop_cond,
            loop_step,
            result,
        })
    }

    /// `body`, where `value` is what is at `key`.
    fn with_value(&mut self, key: &str, value: &str, body: IdedExpr) -> IdedExpr {
        let (it, at) = (self.ident(IT), self.ident(key));
        let found = self.call(operators::INDEX, vec![it, at]);
        self.bind(value, found, body)
    }

    /// `body`, where `name` is `value`.
    fn bind(&mut self, name: &str, value: IdedExpr, body: IdedExpr) -> IdedExpr {
        let comprehension = ComprehensionExpr {
            iter_range: self.expression(Expr::List(ListExpr::default())),
            iter_var: UNUSED.to_owned(),
            iter_var2: None,
            accu_var: name.to_owned(),
            accu_init: value,
            loop_cond: self.flag(false),
            loop_step: self.ident(name),
            result: body,
        };
        self.comprehension(comprehension)
    }

    fn comprehension(&mut self, comprehension: ComprehensionExpr) -> IdedExpr {
        self.expression(Expr::Comprehension(Box::new(comprehension)))
    }

    fn name(&mut self, argument: Option<IdedExpr>) -> Result<String, ParseError> {
        match argument {
            Some(IdedExpr { expr: Expr::Ident(name), .. }) => Ok(name),
            other => {
                let id = other.map_or(0, |argument| argument.id);
                Err(self.helper.new_error(id, "argument must be a simple name"))
            }
        }
    }

    fn expression(&mut self, expression: Expr) -> IdedExpr {
        self.helper.next_expr(expression)
    }

    fn ident(&mut self, name: &str) -> IdedExpr {
        self.expression(Expr::Ident(name.to_owned()))
    }

    fn flag(&mut self, value: bool) -> IdedExpr {
        self.expression(Expr::Literal(LiteralValue::Boolean(value.into())))
    }

    fn int(&mut self, value: i64) -> IdedExpr {
        self.expression(Expr::Literal(LiteralValue::Int(value.into())))
    }

    fn call(&mut self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.expression(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    }
}

fn wrong(what: &str) -> ExecutionError {
    ExecutionError::function_error("comprehension", what)
}

/// The indexes of a list, or the keys of a map in their order, so that what is made of them has one.
fn keys<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let [value] = arguments.as_slice() else { return Err(wrong("no such overload")) };
    let count = value.as_sizer().map_or(0, |sizer| *sizer.size().inner());
    meter::charge(count.unsigned_abs())?;
    let keys: Vec<Box<dyn Val>> = match value.as_builtin() {
        BuiltinRef::List(_) => (0..count).map(|at| Box::new(CelInt::from(at)) as Box<dyn Val>).collect(),
        BuiltinRef::Map(map) => {
            let mut keys: Vec<CelMapKey<'static>> = map.inner().keys().map(|key| key.clone().into_static()).collect();
            keys.sort_unstable();
            keys.iter().map(|key| key.inner().clone_as_boxed()).collect()
        }
        _ => return Err(wrong("neither a list nor a map")),
    };
    Ok(CowVal::owned(CelList::from(keys)))
}

type Entries<'v> = HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>;

/// The map of these pairs.
fn mapped<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let mut entries: Entries<'v> = HashMap::new();
    each(&arguments, |pair| {
        let BuiltinRef::List(pair) = pair.as_builtin() else { return Err(wrong("no pair")) };
        let [key, value] = pair.inner() else { return Err(wrong("no pair")) };
        insert(&mut entries, key_of(key.as_ref())?, value.clone())
    })?;
    Ok(CowVal::owned(CelMap::from(entries)))
}

/// All entries of these maps in one.
fn merged<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Outcome<'b, 'v> {
    let mut entries: Entries<'v> = HashMap::new();
    each(&arguments, |item| {
        let BuiltinRef::Map(map) = item.as_builtin() else { return Err(wrong("an entry is no map")) };
        meter::charge(map.inner().len() as u64)?;
        map.inner().iter().try_for_each(|(key, value)| insert(&mut entries, key.clone(), value.clone()))
    })?;
    Ok(CowVal::owned(CelMap::from(entries)))
}

fn each<'b, 'v>(
    arguments: &'b [CowVal<'_, 'v>],
    mut what: impl FnMut(&'b (dyn Val + 'v)) -> Result<(), ExecutionError>,
) -> Result<(), ExecutionError> {
    let [list] = arguments else { return Err(wrong("no such overload")) };
    let mut items = elements(list)?.iter();
    while let Some(item) = items.next() {
        meter::charge(1)?;
        what(item)?;
    }
    Ok(())
}

fn insert<'v>(entries: &mut Entries<'v>, key: CelMapKey<'v>, value: Box<dyn Val + 'v>) -> Result<(), ExecutionError> {
    match entries.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(wrong("insert failed: key already exists")),
    }
}

fn key_of<'v>(value: &dyn Val) -> Result<CelMapKey<'v>, ExecutionError> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        Ok(CelMapKey::from(text.inner().to_owned()))
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        Ok(CelMapKey::from(*int.inner()))
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        Ok(CelMapKey::from(*uint.inner()))
    } else if let Some(flag) = value.downcast_ref::<CelBool>() {
        Ok(CelMapKey::from(*flag.inner()))
    } else {
        Err(wrong("no such key"))
    }
}

//! Lists as sets: `sets.contains`, `sets.equivalent`, `sets.intersects`, as cel-go has them.
//!
//! Each element of one list is looked for in the other, so the price is that of all these comparisons, paid before the first.

use ::cel::common::types::LIST_TYPE;
use ::cel::common::value::{CowVal, Val};
use ::cel::{DeclarationError, Env, ExecutionError};

use super::library::{elements, length};
use super::meter;
use super::types::flag;

/// Declares the functions.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let two = || vec![LIST_TYPE, LIST_TYPE];
    env.add_overload("sets.contains", "list_sets_contains_list", two(), |a| {
        let (left, right) = pair(&a)?;
        flag(holds_all(&left, &right))
    })?;
    env.add_overload("sets.equivalent", "list_sets_equivalent_list", two(), |a| {
        let (left, right) = pair(&a)?;
        flag(holds_all(&left, &right) && holds_all(&right, &left))
    })?;
    env.add_overload("sets.intersects", "list_sets_intersects_list", two(), |a| {
        let (left, right) = pair(&a)?;
        flag(left.iter().any(|item| is_in(*item, &right)))
    })
}

type Items<'a, 'v> = Vec<&'a (dyn Val + 'v)>;

/// The elements of both lists, once all comparisons are paid.
fn pair<'a, 'v>(arguments: &'a [CowVal<'_, 'v>]) -> Result<(Items<'a, 'v>, Items<'a, 'v>), ExecutionError> {
    let [left, right] = arguments else { return Err(ExecutionError::function_error("sets", "no such overload")) };
    let items = |list: &'a CowVal<'_, 'v>| -> Result<Items<'a, 'v>, ExecutionError> {
        let mut all = elements(list)?.iter();
        let mut items = Vec::new();
        while let Some(item) = all.next() {
            items.push(item);
        }
        Ok(items)
    };
    let (left, right) = (items(left)?, items(right)?);
    let weight = |items: &Items<'_, '_>| items.iter().map(|item| 1 + length(*item) / 64).sum::<u64>();
    let count = |items: &Items<'_, '_>| items.len() as u64;
    meter::charge(
        weight(&left).saturating_mul(count(&right)).saturating_add(weight(&right).saturating_mul(count(&left))),
    )?;
    Ok((left, right))
}

fn holds_all(outer: &Items<'_, '_>, inner: &Items<'_, '_>) -> bool {
    inner.iter().all(|item| is_in(*item, outer))
}

fn is_in(item: &dyn Val, items: &Items<'_, '_>) -> bool {
    items.iter().any(|other| other.equals(item))
}

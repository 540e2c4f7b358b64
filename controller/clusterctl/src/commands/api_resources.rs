//! `api-resources`: the kinds the server has.

use super::catalog::{Catalog, Resource};
use crate::print::table::Table;
use anyhow::Result;
use kube::Client;

/// Which kinds, and how.
#[derive(clap::Args, Debug)]
pub struct ApiResourcesArgs {
    /// Only kinds of this group; "" is the core group.
    #[arg(long, value_name = "GROUP")]
    pub api_group: Option<String>,
    /// Only kinds that are, or are not, in namespaces.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub namespaced: Option<bool>,
    /// Only kinds of this category.
    #[arg(long, value_name = "CATEGORY")]
    pub categories: Option<String>,
    /// Only kinds with all of these verbs.
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// `wide` or `name`.
    #[arg(short, long, value_parser = ["wide", "name"], value_name = "FORM")]
    pub output: Option<String>,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// Prints the kinds.
pub async fn run(client: &Client, args: &ApiResourcesArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let mut kinds: Vec<&Resource> = catalog.iter().filter(|kind| is_wanted(kind, args)).collect();
    kinds.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    if args.output.as_deref() == Some("name") {
        kinds.iter().for_each(|kind| println!("{}", kind.full_name()));
    } else {
        print!("{}", table(&kinds, args.output.is_some()).render(!args.no_headers));
    }
    Ok(())
}

fn is_wanted(kind: &Resource, args: &ApiResourcesArgs) -> bool {
    args.api_group.as_ref().is_none_or(|group| *group == kind.group)
        && args.namespaced.is_none_or(|namespaced| namespaced == kind.namespaced)
        && args.categories.as_ref().is_none_or(|category| kind.categories.contains(category))
        && args.verbs.iter().all(|verb| kind.verbs.contains(verb))
}

fn table(kinds: &[&Resource], wide: bool) -> Table {
    let mut headings = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
    if wide {
        headings.extend(["VERBS", "CATEGORIES"]);
    }
    let mut table = Table::new(headings.into_iter().map(str::to_owned).collect());
    for kind in kinds {
        let mut row = vec![
            kind.plural.clone(),
            kind.short_names.join(","),
            kind.api_version(),
            kind.namespaced.to_string(),
            kind.kind.clone(),
        ];
        if wide {
            row.extend([kind.verbs.join(","), kind.categories.join(",")]);
        }
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_adds_verbs_and_categories() {
        let kind = Resource {
            group: "photoncloud.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            plural: "virtualmachines".to_owned(),
            singular: "virtualmachine".to_owned(),
            kind: "VirtualMachine".to_owned(),
            short_names: vec!["vm".to_owned()],
            categories: vec!["photon".to_owned()],
            namespaced: true,
            verbs: vec!["get".to_owned(), "list".to_owned()],
        };
        insta::assert_snapshot!(table(&[&kind], true).render(true), @r"
        NAME              SHORTNAMES   APIVERSION                 NAMESPACED   KIND             VERBS      CATEGORIES
        virtualmachines   vm           photoncloud.dev/v1alpha1   true         VirtualMachine   get,list   photon
        ");
    }
}

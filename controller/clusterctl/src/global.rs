//! What is asked of all commands: which instance, and which tenant.

use std::path::PathBuf;

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
pub struct Global {
    /// Directory that holds everything of one instance.
    #[arg(long, global = true, env = "CLUSTERCTL_DATA_DIR", default_value = "/var/lib/clusterctl", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Kubeconfig to use instead of the instance's own.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace, that is, tenant.
    #[arg(short, long, global = true, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// Ask in the name of this user, which is a right of its own (`impersonate`).
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// … who is in this group; may be given several times.
    #[arg(long, global = true, requires = "as_user", value_name = "GROUP")]
    pub as_group: Vec<String>,
}

//! What a child says about running it, laid over what its parent said.

use super::ContainerConfig;

impl ContainerConfig {
    /// Lays `child` over this.
    pub(super) fn merge(&mut self, child: ContainerConfig) {
        if child.entrypoint.is_some() && child.cmd.is_none() {
            self.cmd = None;
        }
        merge_env(&mut self.env, child.env);
        union(&mut self.labels, child.labels);
        union(&mut self.exposed_ports, child.exposed_ports);
        union(&mut self.volumes, child.volumes);
        replace(&mut self.user, child.user);
        replace(&mut self.entrypoint, child.entrypoint);
        replace(&mut self.cmd, child.cmd);
        replace(&mut self.working_dir, child.working_dir);
        replace(&mut self.stop_signal, child.stop_signal);
        replace(&mut self.stop_timeout, child.stop_timeout);
        replace(&mut self.healthcheck, child.healthcheck);
        replace(&mut self.shell, child.shell);
        replace(&mut self.args_escaped, child.args_escaped);
        self.on_build = child.on_build;
        self.extra.extend(child.extra);
    }
}

fn replace<T>(parent: &mut Option<T>, child: Option<T>) {
    if child.is_some() {
        *parent = child;
    }
}

fn union<C: Default + Extend<I> + IntoIterator<Item = I>, I>(parent: &mut Option<C>, child: Option<C>) {
    if let Some(child) = child {
        parent.get_or_insert_default().extend(child);
    }
}

/// A variable set again stays where it was; new ones follow.
fn merge_env(parent: &mut Option<Vec<String>>, child: Option<Vec<String>>) {
    for variable in child.into_iter().flatten() {
        let env = parent.get_or_insert_default();
        match env.iter_mut().find(|old| name(old) == name(&variable)) {
            Some(old) => *old = variable,
            None => env.push(variable),
        }
    }
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

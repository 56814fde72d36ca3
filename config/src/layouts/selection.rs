//! Selects the layout for each GPU of a node.

use super::{
    Assignment, Entry, GpuIdentity, GpuSelector, Layouts, LayoutsError, SelectedLayout,
    SourceLocation,
};

impl Layouts {
    /// Selects the layouts that the configuration of this name declares, in the order of the GPUs. A GPU that
    /// no entry selects is omitted: it stays as it is, as in mig-parted.
    ///
    /// # Errors
    /// [`LayoutsError`] when there is no such configuration, and when it names a GPU twice or one that is not on
    /// the node. mig-parted lets the later entry win; here both lines are named. An entry whose filter matches
    /// no GPU is for other nodes, so the GPUs that it names may be absent.
    pub fn select(
        &self,
        name: &str,
        gpus: &[GpuIdentity],
    ) -> Result<Vec<SelectedLayout>, LayoutsError> {
        select(self.config(name)?, gpus)
    }

    /// Selects as [`Layouts::select`], and returns the selectors of absent GPUs instead of an error: a
    /// checkpoint is useful although a card is broken.
    ///
    /// # Errors
    /// As [`Layouts::select`], except for absent GPUs.
    pub fn select_present(
        &self,
        name: &str,
        gpus: &[GpuIdentity],
    ) -> Result<(Vec<SelectedLayout>, Vec<GpuSelector>), LayoutsError> {
        let is_present = |selector: &GpuSelector| {
            *selector == GpuSelector::All || gpus.iter().any(|gpu| selector.selects(gpu))
        };
        let mut absent = Vec::new();
        let mut entries = self.config(name)?.to_vec();
        for entry in &mut entries {
            let removed = entry.gpus.extract_if(.., |(selector, _)| !is_present(selector));
            absent.extend(removed.map(|(selector, _)| selector));
        }
        Ok((select(&entries, gpus)?, absent))
    }
}

impl Assignment {
    /// Selects the layouts of these arguments, in the order of the GPUs.
    ///
    /// # Errors
    /// [`LayoutsError`] when one names a GPU that is not on the node, or two name the same.
    pub fn select(
        all: &[Assignment],
        gpus: &[GpuIdentity],
    ) -> Result<Vec<SelectedLayout>, LayoutsError> {
        let entries: Vec<_> = all.iter().map(Assignment::entry).collect();
        select(&entries, gpus)
    }
}

fn select(entries: &[Entry], gpus: &[GpuIdentity]) -> Result<Vec<SelectedLayout>, LayoutsError> {
    let mut selected: Vec<Option<SelectedLayout>> = vec![None; gpus.len()];
    for entry in entries {
        for (selector, location) in &entry.gpus {
            select_one(&mut selected, entry, selector, location, gpus)?;
        }
    }
    Ok(selected.into_iter().flatten().collect())
}

/// Applies one selector of an entry.
fn select_one(
    selected: &mut [Option<SelectedLayout>],
    entry: &Entry,
    selector: &GpuSelector,
    location: &SourceLocation,
    gpus: &[GpuIdentity],
) -> Result<(), LayoutsError> {
    let matches = |gpu: &GpuIdentity| {
        entry.filters.is_empty() || entry.filters.iter().any(|filter| filter.matches(gpu))
    };
    let is_selected = |(_, gpu): &(usize, &GpuIdentity)| selector.selects(gpu);
    let mut found = gpus.iter().enumerate().filter(is_selected).peekable();
    // `all` of a node without GPUs is no mistake; a GPU by name that is absent is one.
    let is_named = *selector != GpuSelector::All;
    if found.peek().is_none() && is_named && gpus.iter().any(matches) {
        return Err(absent(selector, location, gpus));
    }
    for (position, gpu) in found {
        if !matches(gpu) {
            check_filtered(selector, location, gpu)?;
        } else if let Some(before) = &selected[position] {
            return Err(selected_twice(gpu, &before.location, location));
        } else {
            let (location, layout) = (location.clone(), entry.layout.clone());
            selected[position] = Some(SelectedLayout { gpu: position, layout, location, is_named });
        }
    }
    Ok(())
}

fn selected_twice(
    gpu: &GpuIdentity,
    before: &SourceLocation,
    location: &SourceLocation,
) -> LayoutsError {
    let GpuIdentity { index, uuid, .. } = gpu;
    let cause = format!("gpu {index} ({uuid}) is selected by {before} too");
    LayoutsError::new(location.clone(), cause).with_cure("select it once")
}

/// Checks a selector whose GPU the filter of its entry excludes.
fn check_filtered(
    selector: &GpuSelector,
    location: &SourceLocation,
    gpu: &GpuIdentity,
) -> Result<(), LayoutsError> {
    // Indices mean another card on every node, and the filter chooses among them. A UUID or a PCI address
    // means one card, so a filter that excludes it is a contradiction.
    if matches!(selector, GpuSelector::All | GpuSelector::Index(_)) {
        return Ok(());
    }
    let id = gpu.device_id;
    let cause = format!("{selector} is a 0x{id:08X}, which the device-filter excludes");
    Err(LayoutsError::new(location.clone(), cause).with_cure("drop one of them"))
}

fn absent(selector: &GpuSelector, location: &SourceLocation, gpus: &[GpuIdentity]) -> LayoutsError {
    let names: Vec<_> = gpus.iter().map(|gpu| selector.name(gpu)).collect();
    let error = LayoutsError::new(location.clone(), format!("no gpu {selector} on this node"))
        .with_cure(format!("it has {}", names.join(", ")));
    LayoutsError { is_about_absent_gpu: true, ..error }
}

//! How the engine is told which devices a container has.

use std::str::FromStr;

/// In which ways an allocation names its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists(Vec<List>);

/// A way to name devices to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// The field `CDI_devices` of the CRI, for kubelets that know it: 1.28 and later.
    CdiCri,
    /// The annotation `cdi.k8s.io/…`.
    CdiAnnotations,
    /// The variable `NVIDIA_VISIBLE_DEVICES`, for a runtime that reads it.
    Envvar,
}

impl Lists {
    /// True when devices are named so.
    #[must_use]
    pub fn has(&self, list: List) -> bool {
        self.0.contains(&list)
    }
}

impl FromStr for Lists {
    type Err = String;

    fn from_str(text: &str) -> Result<Lists, String> {
        let one = |word: &str| match word {
            "cdi-cri" => Ok(List::CdiCri),
            "cdi-annotations" => Ok(List::CdiAnnotations),
            "envvar" => Ok(List::Envvar),
            word => Err(format!("{word:?} is not cdi-cri, cdi-annotations or envvar")),
        };
        text.split(',').map(str::trim).map(one).collect::<Result<Vec<_>, _>>().map(Lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_users_write_them() {
        let both: Lists = "cdi-cri, cdi-annotations".parse().expect("two of them");
        assert!(
            both.has(List::CdiCri) && both.has(List::CdiAnnotations) && !both.has(List::Envvar)
        );
        assert!("volume-mounts".parse::<Lists>().is_err());
        assert!("".parse::<Lists>().is_err());
    }
}

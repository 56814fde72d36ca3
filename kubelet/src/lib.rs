//! Offers MIG devices to Kubernetes: a device plugin of the kubelet, which keeps specs true as
//! `mig-cdi watch` does.

pub mod strategy;

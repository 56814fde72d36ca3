//! Tests that need a real Kubernetes node.

mod kubernetes;
mod kubernetes_cluster;
mod kubernetes_daemonset;

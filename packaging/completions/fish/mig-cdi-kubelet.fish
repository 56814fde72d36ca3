complete -c mig-cdi-kubelet -l mig-strategy -d 'Set the MIG strategy, as in NVIDIA\'s device plugin' -r -f -a "none\t'Slices are not advertised; GPUs that are not in MIG mode are nvidia.com/gpu'
single\t'Slices of the most common profile are nvidia.com/gpu'
mixed\t'Slices are nvidia.com/mig-<profile>; GPUs that are not in MIG mode are nvidia.com/gpu'"
complete -c mig-cdi-kubelet -l device-list-strategy -d 'Pass devices to the engine in these ways: one or more of cdi-cri, cdi-annotations, envvar' -r
complete -c mig-cdi-kubelet -l kubelet-dir -d 'Register in DIR, the kubelet\'s directory for device plugins' -r -F
complete -c mig-cdi-kubelet -l pod-resources -d 'Read the devices that pods hold from SOCKET, the kubelet\'s pod-resources API' -r -F
complete -c mig-cdi-kubelet -l feature-file -d 'Write the labels of the node to FILE, for Node Feature Discovery; see docs/kubernetes.md' -r -F
complete -c mig-cdi-kubelet -l node-name -d 'Set the name of this node in the cluster, and write Events about withheld and unhealthy devices' -r
complete -c mig-cdi-kubelet -l layouts-file -d 'Partition GPUs to the layout in FILE that the node\'s label nvidia.com/mig.config names; slices that pods hold stay' -r -F
complete -c mig-cdi-kubelet -l kubeconfig -d 'Connect to the API server as the kubeconfig FILE configures, outside a pod' -r -F
complete -c mig-cdi-kubelet -l journal-dir -d 'Keep the journal of a change in progress in DIR' -r -F
complete -c mig-cdi-kubelet -l leave-gpus -d 'Leave GPUs that are not in MIG mode to another plugin: neither advertise them nor write a spec for them'
complete -c mig-cdi-kubelet -l node-labels -d 'Write the labels of the node through the API server'
complete -c mig-cdi-kubelet -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi-kubelet -s V -l version -d 'Print version'

complete -c mig-cdi-kubelet -l mig-strategy -d 'How slices become resources' -r -f -a "none\t'Slices are not offered; GPUs that are not divided are nvidia.com/gpu'
single\t'All slices are of one profile and are nvidia.com/gpu'
mixed\t'Slices are nvidia.com/mig-<profile>; GPUs that are not divided are nvidia.com/gpu'"
complete -c mig-cdi-kubelet -l device-list-strategy -d 'How the engine is told which devices a container has: one or more of cdi-cri, cdi-annotations, envvar' -r
complete -c mig-cdi-kubelet -l kubelet-dir -d 'The kubelet\'s directory for device plugins' -r -F
complete -c mig-cdi-kubelet -l pod-resources -d 'The kubelet\'s socket that tells which pods have which devices' -r -F
complete -c mig-cdi-kubelet -l feature-file -d 'Write the labels of the node to FILE, for Node Feature Discovery; see docs/kubernetes.md' -r -F
complete -c mig-cdi-kubelet -l node-name -d 'The name of this node in the cluster: it is told by Events what is withheld or unhealthy' -r
complete -c mig-cdi-kubelet -l layouts-file -d 'Divide GPUs as the node\'s label nvidia.com/mig.config says, by the layouts in FILE; slices of pods stay' -r -F
complete -c mig-cdi-kubelet -l kubeconfig -d 'How the API server is reached, outside a pod' -r -F
complete -c mig-cdi-kubelet -l journal-dir -d 'Where it is written down what is divided, until it is done' -r -F
complete -c mig-cdi-kubelet -l leave-gpus -d 'Do not offer GPUs that are not divided, and write no spec for them: another plugin does'
complete -c mig-cdi-kubelet -l node-labels -d 'Write the labels of the node through the API server'
complete -c mig-cdi-kubelet -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi-kubelet -s V -l version -d 'Print version'

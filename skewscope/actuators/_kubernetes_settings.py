"""The settings of the Kubernetes actuator, as `[schedulers.kubernetes]` of a policy gives them."""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = ("skewscope.io/group", "karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
          "kubernetes.azure.com/agentpool")  # fmt: skip
RACKS = ("topology.kubernetes.io/rack", "topology.k8s.aws/network-node-layer-3", "cloud.google.com/gce-topology-block",
         "network.topology.nvidia.com/leaf")  # fmt: skip
FENCES = ("node.kubernetes.io/out-of-service", "node.cloudprovider.kubernetes.io/", "ToBeDeletedByClusterAutoscaler",
          "DeletionCandidateOfClusterAutoscaler", "karpenter.sh/disrupt", "nvsentinel", "nvidia.com/remediation",
          "medik8s.io/", "draino", "cloud.google.com/impending-node-termination",
          "aws-node-termination-handler/")  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What an operator may set; all have defaults.

    `kubeconfig` and `context` say where: "" looks at KUBECONFIG, the pod's service account, then ~/.kube/config.
    `node_selector` limits the nodes that are seen to those with these labels, as kubectl's --selector. The first of
    `group_labels` and of `rack_labels` that a node has says its group and rack. A taint whose key contains one of
    `fence_taints` is somebody else's fence. `restart_all` lets every job be restarted, not only those annotated
    `skewscope.io/may-restart: "true"`; its controller must suspend it within `restart_s`, else it goes on as it was.
    With `device_taints` one GPU is fenced alone where the server knows devices of `gpu_drivers`. A pod that a budget
    holds is tried again after `evict_again_s`. Tests run `test_image` in `namespace`, with `test_resources` as
    "nvidia.com/gpu=8".
    """

    kubeconfig: str = ""
    context: str = ""
    timeout_s: float = 10.0
    node_selector: str = ""
    group_labels: tuple[str, ...] = GROUPS
    rack_labels: tuple[str, ...] = RACKS
    fence_taints: tuple[str, ...] = FENCES
    restart_all: bool = False
    restart_s: float = 30.0
    evict_again_s: float = 30.0
    device_taints: bool = True
    gpu_drivers: tuple[str, ...] = ("gpu.nvidia.com", "gpu.amd.com")
    namespace: str = "skewscope"
    test_image: str = ""
    test_resources: tuple[str, ...] = ()

"""Prometheus metrics of access. A node is labelled by its name."""

from prometheus_client import Counter, Gauge

JOBS_WAITING = Gauge(
    "turnpike_access_jobs_waiting", "Access jobs that the node has not agreed with yet", ["node"]
)
JOBS_DEAD = Gauge("turnpike_access_jobs_dead", "Dead access jobs that wait for a replay", ["node"])
ATTEMPTS = Counter(
    "turnpike_access_attempts",
    "Attempts by verdict: agreed, retry, given_back, dead",
    ["node", "verdict"],
)
NODE_UP = Gauge("turnpike_node_up", "1 while the node gives signs of life", ["node"])
NODE_USERS = Gauge("turnpike_node_users", "Users that the node holds, ours and others", ["node"])
NODE_CAPACITY = Gauge("turnpike_node_capacity", "Users that the node has room for", ["node"])
PUT_BACK = Counter(
    "turnpike_node_put_back",
    "Times that everybody was put back after the node had lost its users",
    ["node"],
)
DRIFT = Counter(
    "turnpike_node_drift",
    "People in drift on a node by kind: missing, unwanted, unknown",
    ["node", "kind"],
)
GRANTED = Counter("turnpike_access_granted", "Orders that the nodes agreed with")
ENDED = Counter("turnpike_access_ended", "Subscriptions whose removal every node confirmed")

"""What can be counted about access, for Prometheus; a node is labelled by its name."""

from prometheus_client import Counter, Gauge

JOBS_WAITING = Gauge("turnpike_access_jobs_waiting", "Access jobs that a node has not agreed with yet", ["node"])
JOBS_DEAD = Gauge("turnpike_access_jobs_dead", "Access jobs that were given up and wait for their replay", ["node"])
ATTEMPTS = Counter(
    "turnpike_access_attempts", "Attempts by verdict: agreed, again, given_back, dead", ["node", "verdict"]
)
NODE_UP = Gauge("turnpike_node_up", "1 while the node gives signs of life", ["node"])
NODE_USERS = Gauge("turnpike_node_users", "Users that the node holds, ours and others", ["node"])
NODE_CAPACITY = Gauge("turnpike_node_capacity", "Users that the node has room for", ["node"])
PUT_BACK = Counter("turnpike_node_put_back", "Times that everybody was put back after a node had lost them", ["node"])
DRIFT = Counter("turnpike_node_drift", "People found missing or unwanted on a node", ["node", "kind"])
GRANTED = Counter("turnpike_access_granted", "Orders that the nodes agreed with")
ENDED = Counter("turnpike_access_ended", "Subscriptions whose removal every node confirmed")

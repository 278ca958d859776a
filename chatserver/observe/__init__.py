"""What operators see: metrics, log lines, the loop's stalls, memory and its collector."""

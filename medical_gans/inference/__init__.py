"""From weights and a case to a result: synthetic CT, lesions, nodules, anomaly scores."""

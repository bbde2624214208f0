// Supervised fine-tuning: the mean negative log-probability of chosen; rejected plays no part.
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  return Loss(-chosen.sum / chosen.labels, -1.0 / chosen.labels, 0.0);
}

// SimPER (arXiv 2502.00883, eq. 4): the inverse perplexity of rejected minus that of chosen. With c and r the mean
// log-probabilities, -exp(c) + exp(r); d/d(sum of chosen) = -exp(c) / labels, d/d(sum of rejected) = exp(r) / labels.
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let c = exp_accurate(chosen.sum / chosen.labels);
  let r = exp_accurate(rejected.sum / rejected.labels);
  return Loss(r - c, -c / chosen.labels, r / rejected.labels);
}

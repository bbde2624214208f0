// What losses are made of.
fn sigmoid(x: f32) -> f32 {
  let e = exp_accurate(-abs(x));
  return select(e, 1.0, x > 0.0) / (1.0 + e);
}
fn log_sigmoid(x: f32) -> f32 { return min(x, 0.0) - log(1.0 + exp_accurate(-abs(x))); }
// Where it would overflow, the largest that is finite.
fn exp_bounded(x: f32) -> f32 { return exp_accurate(min(x, 88.0)); }
// The logistic loss of x where a label is wrong with this probability, and its slope.
fn logistic(x: f32, smoothing: f32) -> vec2f {
  return vec2f(
    -(1.0 - smoothing) * log_sigmoid(x) - smoothing * log_sigmoid(-x),
    smoothing * sigmoid(x) - (1.0 - smoothing) * sigmoid(-x),
  );
}

/** Milliseconds of a submission, as a model of hundreds of millions of parameters takes. */
const SUBMISSION = 110;

/** A driver that blocks the thread which submits, while `isSlow`, until it is let go of. */
export function blockingDriver(): Disposable & { isSlow: boolean } {
  const { submit } = GPUQueue.prototype;
  const driver = {
    isSlow: false,
    [Symbol.dispose]: () => void (GPUQueue.prototype.submit = submit),
  };
  GPUQueue.prototype.submit = function (commands) {
    submit.call(this, commands);
    for (const start = performance.now(); driver.isSlow && performance.now() - start < SUBMISSION;);
  };
  return driver;
}

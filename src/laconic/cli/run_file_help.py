"""The part of ``laconic compress --help`` on run files. Text alone, so that it imports nothing."""

HELP = """\
a run file (TOML) holds options by their names, and in a [settings] table what
--set takes:

  network = "digits-mlp"        # or: model = "package.module:function"
  method = "magnitude"          # also data, task, preset, target, seed,
                                # threads, out, int8 = true
  keep = ["head"]               # layers that stay as they are
  dynamic.x = {0 = "batch", 1 = "time"}   # free axes of the input x
  [settings]
  sparsity = 0.9                # any field of the method
                                # (laconic methods magnitude lists them)
  grid.steps = [0.5, 1.0]
  schedule.name = "iterative"   # a name, or "package.module:Class"
  schedule.rounds = 3
  fit.epochs = 20               # training with the method
  fit.optimizer = "sgd"         # or "torch.optim:RAdam"
  fit.schedule.flat = 0.3
  task.ignore = 255             # a field of the task
                                # (laconic tasks segmentation lists them)
  reference.epochs = 30         # training before it, of a built-in network

several methods in order are stages, each with its own settings
(--set stage2.fit.epochs=3):

  [[stage]]
  method = "distillation"
  fit.epochs = 5
  [[stage]]
  method = "magnitude"
  rewind_to = 0                 # start from the weights that the network had
                                # after so many epochs of the first stage
  sparsity = 0.9
"""

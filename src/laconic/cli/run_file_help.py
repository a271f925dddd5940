"""What ``laconic compress --help`` says of run files. Text alone, so that a start pays nothing for it."""

HELP = """\
a run file (TOML) holds options by their names, then a [settings] table of what --set takes:

  network = "digits-mlp"        # or: model = "package.module:function"
  method = "magnitude"          # also data, task, preset, target, seed, threads, out, int8 = true
  [settings]
  sparsity = 0.9                # any field of the method (laconic methods magnitude lists them)
  grid.steps = [0.5, 1.0]
  schedule.name = "iterative"   # a name, or "package.module:Class" of your own
  schedule.rounds = 3
  fit.epochs = 20               # training with the method
  fit.optimizer = "sgd"         # or "torch.optim:RAdam"
  fit.schedule.flat = 0.3
  task.ignore = 255             # a field of the task (laconic tasks segmentation lists them)
  reference.epochs = 30         # training before it, of a built-in network

several methods in order are stages, each with its own settings (--set stage2.fit.epochs=3):

  [[stage]]
  method = "distillation"
  fit.epochs = 5
  [[stage]]
  method = "magnitude"
  rewind_to = 0                 # start from the weights after so many epochs of the first stage
  sparsity = 0.9
"""

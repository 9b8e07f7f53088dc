"""What is given in place of what is meant: one error of one line says what to write."""

import json
import subprocess
import sys

import pytest

CLASS = ", which has to be called"
PARAMETERS = "the model's parameter n is the Python value 3, and parameters are floating-point arrays"
ADAM = "one of fm.optimisers such as fm.optimisers.adam(1e-3), or an Optax transformation, not "

WAYS = {
    "train(server='adam')": f"server must be {ADAM}'adam'",
    "train(server='sgd')": "such as fm.optimisers.sgd(1e-3), or",
    "train(server=fm.optimisers.adam)": f"server must be {ADAM}the class adam{CLASS}",
    "train(server=optax.adam)": f"server must be {ADAM}the function adam",
    "train(fm.MAML)": f"algorithm must be such as fm.MAML(), not the class MAML{CLASS}",
    "train('maml')": "algorithm must be such as fm.MAML(), not 'maml'",
    "train(model=fm.Model)": f"model must be such as fm.models.mlp((4, 8, 3)), not the class Model{CLASS}",
    "train(model=fm.models.mlp)": "such as fm.models.mlp((4, 8, 3)), not the function mlp",
    "train(data=fm.data.FederatedDataset)": "such as fm.data.load('digits'), not the class FederatedDataset",
    "train(data='digits')": "such as fm.data.load('digits'), not 'digits'",
    "train(transform=fm.transforms.quantise)": f"such as fm.transforms.quantise(8), not the class quantise{CLASS}",
    "train(aggregator=fm.aggregators.krum)": f"not the class krum{CLASS}",
    "train(plan=fm.Plan)": f"plan must be such as fm.Plan(chunk=4), not the class Plan{CLASS}",
    "train(listeners=print)": "listeners takes a list of functions",
    "train(listeners=[fm.events.TensorBoard])": f"not the class TensorBoard{CLASS}",
    "train(validate=0.5)": "validate must be a function, such as lambda phi: figures, not 0.5",
    "fm.MAML(inner=fm.optimisers.adam)": f"inner must be {ADAM}the class adam{CLASS}",
    "fm.PerFedAvg(of=fm.MAML)": f"of must be an algorithm such as fm.MAML(), not the class MAML{CLASS}",
    "fm.PerFedAvg(local=fm.optimisers.sgd)": f"local must be {ADAM}the class sgd{CLASS}",
    "fm.transforms.chain(fm.transforms.quantise)": f"such as quantise(8), not the class quantise{CLASS}",
    "fm.transforms.error_feedback(fm.transforms.top_k)": f"such as top_k(0.1), not the class top_k{CLASS}",
    "fm.Simulator(fm.Federation, data)": f"takes a fm.Federation, not the class Federation{CLASS}",
    "fm.evaluate(fm.MAML, model, phi, data)": f"such as fm.MAML(), not the class MAML{CLASS}",
    "fm.Model(phi, model.apply)": "init must be a function, such as lambda key: params, not {'w': ",
    "fm.Model(model.init, model.apply, 'mse')": "loss must be a function, such as fm.losses.squared_error, not 'mse'",
    "train(model=whole)": PARAMETERS,
    "fm.Federation(fm.MAML(), whole).init(jax.random.key(0))": PARAMETERS,
    "fm.evaluate(fm.MAML(), whole, {'w': phi['w'], 'n': 3}, data)": PARAMETERS,
    "fm.evaluate(fm.MAML(), model, {'w': np.ones((5, 3), np.int32)}, data)": "phi holds int32 at w, and parameters are",
    "table(features='age')": "features takes a list of names: write features=['age'], not features='age'",
    "table(exclude='a')": "write exclude=['a']",
    "table(classes='ab')": "write classes=['ab']",
    "table(kinds='age=number')": "kinds must be a mapping, such as {'age': 'number'}, not 'age=number'",
    "table(reading={'missing': 'NA'})": "write missing=['NA']",
    "table(reading='decimal')": "reading must be such as fm.data.Reading(decimal=','), or a mapping, not 'decimal'",
    "fm.data.from_arrays([[1.0], [2.0]], ['a', 'b'], ['c', 'c'], classes='ab')": "write classes=['ab']",
    "fm.data.from_arrays([[1.0], [2.0]], [0, 1], ['c', 'c'], features='x')": "write features=['x']",
    "fm.data.Info(classes='ab')": "write classes=['ab']",
    "fm.data.Field(name='a', missing='NA')": "write missingValues=['NA']",
    "fm.MetaSGD(rates='kernel')": "rates must be 'filter' or 'layer', or None for one a coordinate, not 'kernel'",
    "fm.MAML(adaptable='head/*')": "adaptable takes a list of patterns: write adaptable=['head/*']",
    "fm.FedPer(personal='head/*')": "write personal=['head/*']",
    "fm.Model(model.init, model.apply, head='head/*')": "write head=['head/*']",
    "fm.Model(model.init, model.apply, needs='key')": 'a model\'s needs can be ("key",)',
}

SCRIPT = """
import json, sys
import jax, numpy as np, optax, fedmeta as fm
draw = np.random.default_rng(0)
data = fm.data.from_arrays(draw.normal(size=(24, 5)), np.arange(24) % 3, np.repeat(list("abcd"), 6))
model = fm.Model(lambda key: {"w": jax.numpy.ones((5, 3))}, lambda params, x: x @ params["w"])
whole = fm.Model(lambda key: {"w": jax.numpy.ones((5, 3)), "n": 3}, lambda params, x: x @ params["w"])
phi = model.init(jax.random.key(0))
def train(algorithm=fm.MAML(), model=model, data=data, **options):
    fm.train(algorithm, model, data, rounds=1, **options)
def table(**options):
    fm.data.from_table({"c": ["a", "b"], "y": ["a", "b"], "age": [1.0, 2.0]}, client="c", target="y", **options)
found = {}
for way in json.load(sys.stdin):
    try:
        eval(way)
        found[way] = "nothing is said"
    except fm.errors.UsageError as error:
        found[way] = str(error)
    except Exception as error:
        found[way] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """What each way says, in a process of its own, for here the annotations are checked first."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(list(WAYS)), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_meant_is_said_in_one_line(found, way):
    assert WAYS[way] in found[way]
    assert "\n" not in found[way]

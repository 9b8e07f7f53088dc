"""A handler that writes down what it is asked, and answers what it was told to."""

from fedmeta.govern.engines.cometbft import abci

ANSWERS = {
    "info": abci.InfoAnswer(height=0, app_hash=b"", app_version=0),
    "init_chain": abci.ChainAnswer(b""),
    "check_tx": abci.TxResult(),
    "prepare_proposal": [],
    "process_proposal": True,
    "finalize_block": abci.BlockAnswer(b""),
    "commit": 0,
    "query": abci.QueryAnswer(),
    "list_snapshots": [],
    "offer_snapshot": abci.Offer.ACCEPT,
    "load_snapshot_chunk": b"",
    "apply_snapshot_chunk": abci.ChunkAnswer(abci.Applied.ACCEPT),
}


def _method(name):
    def method(self, *arguments):
        self.calls.append((name, *arguments))
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer(*arguments) if callable(answer) else answer

    return method


class Recorder(abci.Handler):
    """Answers with empty values, or as `answers` say: a value, a function of the arguments, or an error to raise."""

    def __init__(self, **answers):
        self.calls = []
        self.answers = {**ANSWERS, **answers}

    for _name in ANSWERS:
        locals()[_name] = _method(_name)

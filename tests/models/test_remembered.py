"""What is found once: kept where models share it, and by nobody else."""

from types import SimpleNamespace

from clipedu.models.remembered import found_once


def test_what_is_found_once_is_shared_by_models_with_the_same_encoders():
    calls: list[str] = []

    def find(key):
        calls.append(key)
        return f"found {key}"

    alone, shared = SimpleNamespace(remembered=None), {}
    one, two = SimpleNamespace(remembered=shared), SimpleNamespace(remembered=shared)
    for model in (alone, SimpleNamespace(), alone):
        assert found_once(model, "a", lambda: find("a")) == "found a"
    assert calls == ["a", "a", "a"]  # nothing is kept by default
    for model, key in ((one, "b"), (two, "b"), (one, "c"), (two, "b")):
        assert found_once(model, key, lambda key=key: find(key)) == f"found {key}"
    assert calls[3:] == ["b", "c"]


def test_nothing_found_is_kept_too():
    model, calls = SimpleNamespace(remembered={}), []
    assert [found_once(model, "none", lambda: calls.append(1)) for _ in range(2)] == [None, None] and len(calls) == 1

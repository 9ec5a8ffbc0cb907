"""The shipped sample prompts, and folders that are not as they should be."""

from pathlib import Path

from profiles.prompts import load_prompts


def test_shipped_prompts_have_prose_and_code() -> None:
    prompts = load_prompts()
    kinds = [prompt.kind for prompt in prompts]
    assert kinds.count("prose") >= 3
    assert kinds.count("code") >= 3
    assert kinds == sorted(kinds, key=("prose", "code").index)
    assert len({prompt.title for prompt in prompts}) == len(prompts)
    # The demo model has 1024 positions and about 3.4 bytes a token: a sample must leave room for an answer.
    assert all(len(prompt.text.encode()) < 1024 for prompt in prompts)


def test_code_prompts_parse_when_completed() -> None:
    for prompt in load_prompts():
        if prompt.kind == "code":
            last = prompt.text.splitlines()[-1]
            indent = len(last) - len(last.lstrip()) + (4 if last.endswith(":") else 0)
            compile(f"{prompt.text}\n{' ' * indent}pass\n", prompt.title, "exec")


def test_odd_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "verse").mkdir()
    (tmp_path / "verse" / "Good_one.txt").write_text("Roses\nare\n", encoding="utf-8")
    (tmp_path / "verse" / "Empty.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "verse" / "Bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert [(p.kind, p.title, p.text) for p in load_prompts(tmp_path)] == [("verse", "Good one", "Roses\nare")]
    assert load_prompts(tmp_path / "missing") == ()

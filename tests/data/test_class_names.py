"""ImageNet's class names and the prompts."""

from clipedu.data.class_names import PHOTO_TEMPLATES, imagenet_classes


def test_names_are_in_the_order_of_the_index_and_differ():
    names = imagenet_classes()
    assert len(names) == 1000 == len({name.lower() for name in names})
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 817: "sports car", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known
    assert all(name == name.strip() and name and "," not in name and "_" not in name for name in names)


def test_classes_that_share_a_name_are_told_apart():
    names = imagenet_classes()
    assert "crane" not in names and {names[134], names[517]} == {"crane bird", "construction crane"}
    assert names[638] == "maillot" and names[639] == "tank suit"
    assert names[657] != names[744] and names[836] != names[837]


def test_templates():
    assert len(set(PHOTO_TEMPLATES)) == len(PHOTO_TEMPLATES) >= 5
    for template in PHOTO_TEMPLATES:
        assert template.count("{}") == 1 and "tench" in template.format("tench")

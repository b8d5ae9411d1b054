"""Configs that an older version wrote: the fields that they lack, and the fields that stood in another section."""

# Fields that older configs lack, with the value that their runs had in effect.
LATER = {
    "codec.name": "auto",
    "denoiser.prediction_options": {},
    "model.noise_embedding": "sinusoidal",
    "training.label_dropout": 0.0,
}
# Fields that have moved: {the old place: the new one}. The old names keep working.
MOVED = {
    **{f"sampling.{name}": f"interpolation.{name}" for name in ("pairs", "pair_images", "inversion_steps")},
    **{f"sampling.{name}": f"inpainting.{name}" for name in ("mask", "masked_images", "completions", "resamplings")},
}


def moved_overrides(overrides):
    """Pairs of a dotted field and its value, every field by its new name."""
    return [(MOVED.get(field, field), value) for field, value in overrides]


def moved_sections(config):
    """A config's sections, every field in its new section; a field that is set in both keeps its value in the new one.

    Sections that are no dicts are left as they are: `resolve` refuses them.
    """
    sections = {name: dict(fields) if isinstance(fields, dict) else fields for name, fields in config.items()}
    for old, new in MOVED.items():
        (old_section, field), (new_section, new_field) = old.split("."), new.split(".")
        source, target = sections.get(old_section), sections.get(new_section, {})
        if isinstance(source, dict) and isinstance(target, dict) and field in source:
            sections[new_section] = {new_field: source.pop(field), **target}
    return sections

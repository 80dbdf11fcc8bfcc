"""Cases of make_vectors.py for strings. Case in UTF-8 is ONNX Runtime's in the locale C.UTF-8, which is that of Unicode; the
reference evaluator strips accents. Numbers that become strings are not here: each tool writes them in a way of its own."""
import numpy as np

CASES = []


def case(name, opset, op, inputs, oracle="ort", **attributes):
    CASES.append((name, opset, op, inputs, attributes, 1, oracle))


def words(*texts):
    return np.array(texts, object)


WORDS = words("Straße", "ÄPFEL", "Ⱥb", "monday", "\u212aelvin", "ſ", "Σίσυφος", "ДОМ", "ȿ", "", "a,b", "ᾳ", "ǅ", "\U00010428x", "İ")
for action in ("NONE", "LOWER", "UPPER"):
    for exact in (0, 1):
        name = f"strnormalizer_10_{action.lower()}_{exact}"
        case(name, 10, "StringNormalizer", [WORDS], case_change_action=action, is_case_sensitive=exact, locale="C.UTF-8",
             stopwords=["äpfel", "MONDAY", "kelvin", "дом", "A,B", "", "σίσυφοΣ"])
case("strnormalizer_10_rows", 10, "StringNormalizer", [WORDS.reshape(1, -1)], case_change_action="LOWER", locale="C.UTF-8",
     stopwords=["DOM", "ДОМ"])
case("strnormalizer_10_nothing_left", 10, "StringNormalizer", [words("b", "B", "b")], case_change_action="UPPER", locale="C.UTF-8",
     stopwords=["b"])
case("equal_19_strings", 19, "Equal", [words("a", "", "ä", "abc").reshape(2, 2), words("a", "abc")], "reference")
case("identity_16_strings", 16, "Identity", [WORDS])
case("concat_13_strings", 13, "Concat", [words("a", "bc").reshape(2, 1), words("d", "", "e", "f").reshape(2, 2)], axis=1)
case("gather_13_strings", 13, "Gather", [words("a", "bc", "d"), np.array([2, 0, -1])])
case("reshape_13_strings", 13, "Reshape", [words("a", "bc", "d", ""), (np.array([2, -1]),)])
case("slice_13_strings", 13, "Slice", [words("a", "bc", "d", ""), (np.array([3]),), (np.array([0]),), (np.array([0]),), (np.array([-2]),)],
     "reference")
case("transpose_13_strings", 13, "Transpose", [words("a", "bc", "d", "", "e", "f").reshape(2, 3)], "reference")
case("where_16_strings", 16, "Where", [np.array([True, False]), words("a", "b"), words("c", "d")])
case("shape_15_strings", 15, "Shape", [WORDS])
for number, values in ((1, ["1", "-0.5", " 2.5e3", "1E-3", "inf", "-INF", "nan", "1e39", "123456789"]), (11, ["0.1", "1e300", "-3"]),
                       (7, ["12", "-9223372036854775808", "9223372036854775807"]), (6, ["7", "-8"]), (3, ["-128", "5"])):
    case(f"cast_13_from_string_{number}", 13, "Cast", [words(*values)], "ort", to=number)
case("cast_13_to_string_s64", 13, "Cast", [np.array([0, -7, 2 ** 62])], to=8)
POOL = dict(ngram_counts=[0, 4], ngram_indexes=[0, 1, 2, 3, 5, 4, 6], pool_strings=["a", "b", "ä", "d", "a", "b", "b", "ä", "d", "d"])
for mode in ("TF", "IDF", "TFIDF"):
    case(f"tfidf_9_strings_{mode.lower()}", 9, "TfIdfVectorizer", [words("a", "b", "ä", "a", "b", "d", "x", "d", "A", "", "d", "b").reshape(2, 6)],
         mode=mode, min_gram_length=1, max_gram_length=2, max_skip_count=2, weights=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], **POOL)
